import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from product_consumer.embedding.cuda import CudaPasses, GraphedTower, graph_sizes
from product_consumer.embedding.loading import LoadedModel, load_model
from product_consumer.embedding.towers import Towers
from product_consumer.settings import Settings
from tests.support.tiny_clip import TinyClip, make_tiny_clip

CONTEXT = 77


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyClip:
    return make_tiny_clip(tmp_path_factory.mktemp("model"), name="tiny-towers")


@pytest.fixture(scope="module")
def loaded(tiny: TinyClip) -> LoadedModel:
    return load_model(Settings.model_validate(tiny.settings))


def token_ids(loaded: LoadedModel, *names: str) -> list[Any]:
    return [loaded.tokenizer(name)[0].numpy() for name in names]


@pytest.mark.parametrize(
    ("names", "length"),
    [
        (["red mug"], 16),
        (["", "a"], 16),
        (["word " * 14], 16),
        (["word " * 15], 32),
        (["red mug", "word " * 40], 48),
        (["red mug", "word " * 50], CONTEXT),
        (["word " * 500], CONTEXT),
        (["mug <end_of_text> saucer " * 10], 16),
    ],
)
def test_texts_are_cut_to_a_few_lengths_without_changing_their_embeddings(
    loaded: LoadedModel, names: list[str], length: int
) -> None:
    towers, tokens = Towers(loaded), token_ids(loaded, *names)
    cut = towers.cut(tokens)
    assert cut.shape == (len(names), length)
    with torch.inference_mode():
        whole = loaded.model.encode_text(torch.from_numpy(np.stack(tokens)))
        short = towers.encode_texts(torch.from_numpy(cut))
    assert torch.allclose(short, whole, atol=1e-5, rtol=1e-6)
    assert torch.nn.functional.cosine_similarity(short, whole).min() > 0.999999


@pytest.mark.parametrize(
    "text_changes",
    [
        pytest.param({"no_causal_mask": True}, id="every token sees the padding"),
        pytest.param({"pool_type": "last"}, id="read at the last token"),
        pytest.param({"pool_type": "first"}, id="read at the first token"),
    ],
)
def test_texts_run_whole_where_padding_could_change_the_embedding(
    tmp_path: Path, text_changes: dict[str, Any]
) -> None:
    tiny = make_tiny_clip(tmp_path, name="tiny-whole-texts", text_changes=text_changes)
    loaded = load_model(Settings.model_validate(tiny.settings))
    towers, tokens = Towers(loaded), token_ids(loaded, "red mug")
    assert towers.text_lengths == (CONTEXT,)
    assert towers.cut(tokens).shape == (1, CONTEXT)


def test_a_model_that_is_not_open_clips_own_runs_texts_whole(loaded: LoadedModel) -> None:
    class Other:
        attn_mask = torch.zeros(1)

    other = dataclasses.replace(loaded, model=Other())
    assert Towers(other).text_lengths == (CONTEXT,)


def test_pixels_are_normalised_as_by_to_tensor_and_normalize(loaded: LoadedModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    expected = torch.stack([loaded.transform.transforms[-1](_scaled(image)) for image in pixels])
    with torch.inference_mode():
        rows = Towers(loaded).encode_images(torch.from_numpy(pixels))
        assert torch.equal(rows, loaded.model.encode_image(expected))


def test_graphs_are_of_few_sizes_and_none_is_far_from_its_batch() -> None:
    assert graph_sizes(1, steps_per_octave=4) == [1]
    assert graph_sizes(7, steps_per_octave=4) == [7, 4, 2, 1]
    assert graph_sizes(64, steps_per_octave=1) == [64, 32, 16, 8, 4, 2, 1]
    assert graph_sizes(64, steps_per_octave=4)[:6] == [64, 56, 48, 40, 32, 28]
    assert graph_sizes(1024, steps_per_octave=1)[0] == 128
    sizes = graph_sizes(128, steps_per_octave=4)
    for count in range(8, 129):
        assert min(size for size in sizes if size >= count) <= count * 1.25


def test_a_batch_takes_the_smallest_graph_that_holds_it() -> None:
    tower = GraphedTower(lambda inputs: inputs, "texts")
    graphs: dict[tuple[int, ...], Any] = {(size, 16): object() for size in (1, 8, 32)}
    tower.graphs = graphs
    assert tower.find((1, 16)) is graphs[(1, 16)]
    assert tower.find((5, 16)) is graphs[(8, 16)]
    assert tower.find((8, 16)) is graphs[(8, 16)]


@pytest.mark.parametrize("shape", [(2, 16), (33, 16), (8, 32)])
def test_a_batch_without_a_fitting_graph_is_launched_kernel_by_kernel(
    shape: tuple[int, int],
) -> None:
    tower = GraphedTower(lambda inputs: inputs, "texts")
    graphs: dict[tuple[int, ...], Any] = {(size, 16): object() for size in (1, 8, 32)}
    tower.graphs = graphs
    assert tower.find(shape) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("count", [1, 3, 16, 20])
def test_passes_on_cuda_equal_those_of_open_clip_in_float32(
    tiny: TinyClip, loaded: LoadedModel, captured: bool, count: int
) -> None:
    on_cuda = load_model(Settings.model_validate(tiny.settings | {"device": "cuda"}))
    passes = CudaPasses(Towers(on_cuda), on_cuda.device, max_batch=16)
    if captured:
        passes.capture((64, 64, 3))
    drawn = np.random.default_rng(0).integers(0, 256, (2 * count, 64, 64, 3)).astype(np.uint8)
    tokens = token_ids(loaded, *(f"red mug {number}" for number in range(2 * count)))
    waits = [passes.queue(list(drawn[s]), tokens[s]) for s in (slice(count), slice(count, None))]
    rows = [np.concatenate(halves) for halves in zip(*(wait() for wait in waits), strict=True)]
    towers = Towers(loaded)
    with torch.inference_mode():
        images = towers.encode_images(torch.from_numpy(drawn))
        texts = towers.encode_texts(torch.from_numpy(towers.cut(tokens)))
    for side, expected in zip(rows, (images, texts), strict=True):
        cosines = torch.nn.functional.cosine_similarity(torch.from_numpy(side), expected)
        assert cosines.min() > 0.99


def _scaled(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
