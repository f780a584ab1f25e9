import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file

from product_consumer.embedding import embedder as embedder_module
from product_consumer.embedding import loading, preprocessing
from product_consumer.embedding.embedder import Embedder, load_embedder
from product_consumer.embedding.loading import LoadedModel, load_model
from product_consumer.embedding.preprocessing import PreparedItem
from product_consumer.embedding.tokenizer import make_tokenizer
from product_consumer.errors import (
    ConfigurationError,
    EmbeddingRejected,
    FatalError,
    ModelBroken,
    ProductConsumerError,
    RetryMessage,
    Unavailable,
)
from product_consumer.models import Embeddings
from product_consumer.settings import Settings
from product_consumer.vectors import Embedding
from tests.support.tiny_clip import TinyClip, make_tiny_clip, model_config

NAME = "Áo thun nam cổ tròn, 100% cotton &amp; size XL"
SIZES = [(64, 64), (333, 517), (800, 600), (65, 63), (9, 8), (400, 20)]
Answer = Embeddings | ProductConsumerError
Pixels = NDArray[np.uint8]
USELESS = [0.0, float("inf"), float("-inf"), float("nan")]


def noisy_image(width: int = 90, height: int = 70, seed: int = 0) -> Pixels:
    """A gradient under noise: coarse and fine detail, so that every step of resizing is visible."""
    noise = np.random.default_rng(seed).integers(0, 80, (height, width, 3))
    ramp = np.linspace(0, 175, width)[None, :, None] * [1, 0.5, 0.2] + np.arange(3) * seed % 60
    return np.clip(noise + ramp, 0, 255).astype(np.uint8)


def grey_image(level: int) -> Pixels:
    return np.full((64, 64, 3), level, dtype=np.uint8)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def tiny(directory: Path) -> TinyClip:
    return make_tiny_clip(directory, name="tiny-embedding")


@pytest.fixture(scope="module", autouse=True)
def one_tokenizer() -> Iterator[None]:
    """Every embedder of a model has the same tokenizer: to make one takes a quarter of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocessing, "make_tokenizer", functools.cache(make_tokenizer))
        yield


@pytest.fixture(scope="module")
def loaded(tiny: TinyClip) -> LoadedModel:
    return load_model(Settings.model_validate(tiny.settings))


@pytest.fixture
def embedder(loaded: LoadedModel) -> Iterator[Embedder]:
    """An embedder of its own for each test, on the same model, whose towers may be replaced."""
    towers = SimpleNamespace(
        encode_image=loaded.model.encode_image, encode_text=loaded.model.encode_text
    )
    running = Embedder(dataclasses.replace(loaded, model=towers), max_batch=64)
    yield running
    running.close()


def prepared(embedder: Embedder, pixels: Pixels | None, text: str) -> PreparedItem:
    return embedder.prepare(pixels, embedder.tokenise(text))


def embeddings(answer: Answer) -> Embeddings:
    if isinstance(answer, ProductConsumerError):
        raise answer
    return answer


def cosine(first: Embedding, second: Embedding) -> float:
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first.astype(np.float64) @ second / lengths)


def replace(embedder: Embedder, method: str, changed: Callable[[torch.Tensor], Any]) -> None:
    """Make the model's ``encode_image`` or ``encode_text`` do something else in this embedder."""
    setattr(embedder._loaded.model, method, changed)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_embeddings_equal_those_of_plain_open_clip(directory: Path, quick_gelu: bool) -> None:
    tiny = make_tiny_clip(directory, quick_gelu=quick_gelu, name=f"tiny-plain-{quick_gelu}")
    ours = load_embedder(Settings.model_validate(tiny.settings))
    # As OpenCLIP's own documentation does it.
    model, _, transform = open_clip.create_model_and_transforms(
        tiny.model_name, str(tiny.weights_path)
    )
    model.eval()
    tokenizer = open_clip.get_tokenizer(tiny.model_name)

    for size in SIZES:
        [answer] = ours.embed([prepared(ours, noisy_image(*size), f"{NAME} {size}")])
        with torch.no_grad():
            pixels = transform(Image.fromarray(noisy_image(*size)))
            image = model.encode_image(pixels.unsqueeze(0))[0].numpy()
            text = model.encode_text(tokenizer([f"{NAME} {size}"]))[0].numpy()
        assert cosine(embeddings(answer).image, image) > 0.9999999
        assert cosine(embeddings(answer).text, text) > 0.9999999
    ours.close()


def test_the_activation_changes_the_embeddings(directory: Path) -> None:
    tiny = make_tiny_clip(directory, name="tiny-visible")
    plain = load_embedder(Settings.model_validate(tiny.settings))
    quick = load_embedder(Settings.model_validate(tiny.settings | {"openclip_quick_gelu": True}))
    assert cosine(plain.embed_text(NAME), quick.embed_text(NAME)) < 0.99999
    assert cosine(plain.embed_image(noisy_image()), quick.embed_image(noisy_image())) < 0.99999
    plain.close()
    quick.close()


@pytest.mark.parametrize(
    "preprocess",
    [
        {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.5, 0.9), "interpolation": "bilinear"},
        {"resize_mode": "longest", "interpolation": "bilinear", "fill_color": 9},
        {"resize_mode": "squash", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    ],
)
def test_the_preprocessing_of_a_configuration_is_followed(
    directory: Path, preprocess: dict[str, Any]
) -> None:
    tiny = make_tiny_clip(directory, preprocess=preprocess, name="tiny-preprocess")
    ours = load_embedder(Settings.model_validate(tiny.settings))
    model, _, _ = open_clip.create_model_and_transforms(tiny.model_name, str(tiny.weights_path))
    model.eval()
    transform = image_transform_v2(PreprocessCfg(size=64, **preprocess), is_train=False)

    for size in SIZES:
        with torch.no_grad():
            image = transform(Image.fromarray(noisy_image(*size)))
            theirs = model.encode_image(image.unsqueeze(0))[0].numpy()
        assert cosine(ours.embed_image(noisy_image(*size)), theirs) > 0.9999999
    ours.close()


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize(
    ("pixels", "sizes", "grey_levels"),
    [
        pytest.param(64, SIZES, 0, id="small model"),
        pytest.param(224, [(9, 8), (400, 20), (223, 600)], 0, id="made larger"),
        pytest.param(224, [(224, 225), (800, 600), (333, 1000)], 2, id="made smaller"),
    ],
)
def test_a_prepared_image_is_that_of_open_clip_within_two_grey_levels(
    loaded: LoadedModel,
    pixels: int,
    sizes: list[tuple[int, int]],
    grey_levels: int,
    resize_mode: str,
) -> None:
    preprocess = PreprocessCfg(size=pixels, resize_mode=resize_mode)
    transform = image_transform_v2(preprocess, is_train=False)
    embedder = Embedder(
        dataclasses.replace(loaded, preprocess=preprocess, transform=transform), max_batch=1
    )
    for number, size in enumerate(sizes):
        image = noisy_image(*size, seed=number)
        expected = Image.fromarray(image)
        for step in transform.transforms[:-2]:
            expected = step(expected)
        resized = embedder.prepare(image, None).pixels
        assert resized is not None
        assert resized.shape == (pixels, pixels, 3)
        assert resized.dtype == np.uint8
        difference = np.abs(resized.astype(int) - np.asarray(expected, dtype=int))
        assert difference.max() <= grey_levels
        assert difference.mean() < 0.3
    embedder.close()


def test_normalising_on_the_device_equals_to_tensor_and_normalize(embedder: Embedder) -> None:
    seen: list[torch.Tensor] = []

    def remember(values: torch.Tensor) -> torch.Tensor:
        seen.append(values)
        return torch.ones(len(values), embedder.dimension)

    replace(embedder, "encode_image", remember)
    item = embedder.prepare(noisy_image(), None)
    assert item.pixels is not None
    embedder.embed_image(item.pixels)
    expected = embedder._loaded.transform(Image.fromarray(item.pixels))
    assert torch.equal(seen[0][0], expected)


def test_every_embedding_has_unit_length_and_the_models_dimension(embedder: Embedder) -> None:
    [answer] = embedder.embed([prepared(embedder, noisy_image(), NAME)])
    for field in ("text", "image", "combined"):
        embedding = embeddings(answer).by_field(field)
        assert embedding.dtype == np.float32
        assert embedding.shape == (embedder.dimension,) == (768,)
        assert float(np.linalg.norm(embedding)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "word " * 10_000, "a" * 10_000, "🛒" * 500, "\ud800", "\x00", "&#xD800;", "<b>"],
)
def test_any_text_has_an_embedding(embedder: Embedder, text: str) -> None:
    assert float(np.linalg.norm(embedder.embed_text(text))) == pytest.approx(1.0, abs=1e-6)


def test_a_long_text_is_cut_at_the_context_length_and_keeps_its_end_token(
    embedder: Embedder,
) -> None:
    tokens = embedder.tokenise("áo thun " * 5_000)
    assert tokens is not None
    assert tokens.shape == (77,)
    assert tokens[0] == 49406
    assert tokens[-1] == 49407


@pytest.mark.parametrize(
    "text", ["tốt nhất " * 3_000, "x" * 9_000, " " * 9_000 + "shoe", "🛒" * 3_000]
)
def test_cutting_a_long_text_early_changes_no_token(embedder: Embedder, text: str) -> None:
    expected = open_clip.get_tokenizer("ViT-L-14-336")([text])[0].numpy()
    tokens = embedder.tokenise(text)
    assert tokens is not None
    assert np.array_equal(tokens, expected)


def test_any_text_has_tokens_between_a_start_and_an_end_token(loaded: LoadedModel) -> None:
    embedder = Embedder(loaded, max_batch=1)

    @given(st.text(max_size=200) | st.text(st.characters(categories=["Cs", "Cc", "So"])))
    def check(text: str) -> None:
        tokens = embedder.tokenise(text)
        assert tokens is not None
        assert tokens[0] == 49406
        assert 49407 in tokens

    check()
    embedder.close()


def test_one_side_alone_equals_that_side_of_a_product(embedder: Embedder) -> None:
    [answer] = embedder.embed([prepared(embedder, noisy_image(), NAME)])
    assert np.allclose(embedder.embed_text(NAME), embeddings(answer).text, atol=1e-6)
    assert np.allclose(embedder.embed_image(noisy_image()), embeddings(answer).image, atol=1e-6)


def test_a_product_without_one_of_its_sides_is_a_mistake_of_the_caller(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="one of them is missing"):
        embedder.embed([prepared(embedder, None, NAME)])


def test_embeddings_are_the_same_from_many_threads_as_one_at_a_time(embedder: Embedder) -> None:
    items = [prepared(embedder, noisy_image(seed=n), f"product {n}") for n in range(40)]
    alone = [embeddings(embedder.embed([item])[0]) for item in items]

    def embed_four(start: int) -> list[Answer]:
        return embedder.embed(items[start : start + 4])

    with ThreadPoolExecutor(10) as pool:
        answers = [a for four in pool.map(embed_four, range(0, 40, 4)) for a in four]

    for expected, together in zip(alone, map(embeddings, answers), strict=True):
        assert np.allclose(together.image, expected.image, atol=1e-5)
        assert np.allclose(together.text, expected.text, atol=1e-5)


def test_one_hand_over_is_one_forward_pass(embedder: Embedder) -> None:
    counts: list[int] = []

    def count(values: torch.Tensor) -> torch.Tensor:
        counts.append(len(values))
        return torch.ones(len(values), embedder.dimension)

    replace(embedder, "encode_image", count)
    item = prepared(embedder, noisy_image(), NAME)
    embedder.embed([item] * 10)
    assert counts == [10]


def test_the_model_lock_is_held_by_the_model_thread_during_forward_passes(
    embedder: Embedder,
) -> None:
    held: list[tuple[bool, str]] = []

    def check_lock(values: torch.Tensor) -> torch.Tensor:
        held.append((embedder.model_lock.locked(), threading.current_thread().name))
        return torch.ones(len(values), embedder.dimension)

    replace(embedder, "encode_image", check_lock)
    embedder.embed_image(noisy_image())
    assert held == [(True, "model")]
    assert not embedder.model_lock.locked()


def test_preparing_goes_on_while_the_model_is_busy(embedder: Embedder) -> None:
    with embedder.model_lock:
        item = prepared(embedder, noisy_image(), NAME)
    assert item.pixels is not None
    assert item.tokens is not None


def spoil(embedder: Embedder, marker: int, times: int) -> list[int]:
    """Make the first ``times`` passes over an image of the grey level ``marker`` give NaN."""
    passes: list[int] = []
    encode = embedder._loaded.model.encode_image
    grey = embedder._loaded.transform(Image.fromarray(grey_image(marker)))[0, 0, 0]

    def encode_image(values: torch.Tensor) -> torch.Tensor:
        passes.append(len(values))
        rows: torch.Tensor = encode(values).clone()
        spoilt = values[:, 0, 0, 0] == grey
        if spoilt.any() and len([n for n in passes if n]) <= times:
            rows[spoilt] = float("nan")
        return rows

    replace(embedder, "encode_image", encode_image)
    return passes


def grey_items(embedder: Embedder, levels: Sequence[int]) -> list[PreparedItem]:
    return [prepared(embedder, grey_image(level), "grey") for level in levels]


def test_an_embedding_that_is_never_finite_is_rejected_alone(embedder: Embedder) -> None:
    passes = spoil(embedder, marker=77, times=99)
    answers = embedder.embed(grey_items(embedder, [1, 77, 2]))
    assert isinstance(answers[1], EmbeddingRejected)
    assert answers[1].reason == "embedding_invalid"
    assert isinstance(answers[0], Embeddings)
    assert isinstance(answers[2], Embeddings)
    # Together, alone, and both trial items: only a model that works may blame an item.
    assert passes == [3, 1, 1, 1]


def test_an_embedding_that_is_finite_when_computed_alone_is_kept(embedder: Embedder) -> None:
    passes = spoil(embedder, marker=77, times=1)
    answers = embedder.embed(grey_items(embedder, [1, 77, 2]))
    assert all(isinstance(answer, Embeddings) for answer in answers)
    assert passes == [3, 1]


@pytest.mark.parametrize("value", USELESS)
def test_an_embedding_without_a_finite_length_is_rejected(embedder: Embedder, value: float) -> None:
    encode = embedder._loaded.model.encode_text
    tokens = torch.from_numpy(embedder.tokenise(NAME))

    def encode_text(texts: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = encode(texts).clone()
        rows[(texts == tokens[: texts.shape[1]]).all(dim=1)] = value
        return rows

    replace(embedder, "encode_text", encode_text)
    with pytest.raises(EmbeddingRejected, match="embedding_invalid"):
        embedder.embed_text(NAME)


@pytest.mark.parametrize("side", ["encode_image", "encode_text"])
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_model_that_breaks_while_it_runs_blames_no_item(
    embedder: Embedder, side: str, value: float
) -> None:
    embedder.warm_up()
    replace(embedder, side, lambda inputs: torch.full((len(inputs), 768), value))
    with pytest.raises(ModelBroken, match="no longer gives valid embeddings"):
        embedder.embed(grey_items(embedder, [1, 77, 2]))
    assert embedder.failed
    with pytest.raises(ModelBroken):
        embedder.embed(grey_items(embedder, [3]))


@pytest.mark.parametrize("value", [1e-30, 3e38])
def test_the_length_of_a_finite_row_does_not_matter(embedder: Embedder, value: float) -> None:
    replace(embedder, "encode_text", lambda tokens: torch.full((len(tokens), 768), value))
    assert float(np.linalg.norm(embedder.embed_text(NAME))) == pytest.approx(1.0, abs=1e-6)


def test_a_batch_too_large_for_the_device_is_halved_until_it_fits(embedder: Embedder) -> None:
    items = [prepared(embedder, noisy_image(seed=n), f"product {n}") for n in range(10)]
    expected = [embeddings(answer) for answer in embedder.embed(items)]
    encode = embedder._loaded.model.encode_image
    passes: list[int] = []

    def encode_image(values: torch.Tensor) -> Any:
        passes.append(len(values))
        if len(values) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(values)

    replace(embedder, "encode_image", encode_image)
    halved = [embeddings(answer) for answer in embedder.embed(items)]
    assert passes == [10, 5, 2, 3, 5, 2, 3]
    for item, whole in zip(halved, expected, strict=True):
        assert np.allclose(item.image, whole.image, atol=1e-5)


def test_an_item_too_large_for_the_device_alone_is_retried_later(embedder: Embedder) -> None:
    def encode_image(values: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    replace(embedder, "encode_image", encode_image)
    [answer] = embedder.embed([prepared(embedder, noisy_image(), NAME)])
    assert isinstance(answer, RetryMessage)
    assert answer.reason == "device_out_of_memory"


@pytest.mark.parametrize(
    "failure",
    [
        torch.AcceleratorError("an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        MemoryError(),
    ],
)
def test_a_lost_device_is_fatal_for_this_item_and_all_after_it(
    embedder: Embedder, failure: Exception
) -> None:
    def encode_image(values: torch.Tensor) -> torch.Tensor:
        raise failure

    replace(embedder, "encode_image", encode_image)
    with pytest.raises(FatalError):
        embedder.embed([prepared(embedder, noisy_image(), NAME)] * 3)
    with pytest.raises(FatalError):
        embedder.embed_text(NAME)


def test_a_failure_of_one_item_that_nobody_expects_is_retried_a_few_times(
    embedder: Embedder,
) -> None:
    items = grey_items(embedder, [1, 77, 2])
    encode = embedder._loaded.model.encode_image
    grey = embedder._loaded.transform(Image.fromarray(grey_image(77)))[0, 0, 0]

    def encode_image(values: torch.Tensor) -> Any:
        if (values[:, 0, 0, 0] == grey).any():
            raise RuntimeError("shape mismatch")
        return encode(values)

    replace(embedder, "encode_image", encode_image)
    good, bad, also_good = embedder.embed(items)
    assert isinstance(good, Embeddings)
    assert isinstance(also_good, Embeddings)
    assert isinstance(bad, RetryMessage)
    assert bad.max_attempts == 3
    assert bad.final_reason == "unexpected:RuntimeError"


def test_a_model_that_never_answers_is_fatal(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(embedder_module.ANSWER_SECONDS, "cpu", 0.05)
    embedder = Embedder(dataclasses.replace(loaded, model=SimpleNamespace()), max_batch=1)
    ended = threading.Event()

    def encode_text(tokens: torch.Tensor) -> torch.Tensor:
        ended.wait(10)
        return torch.ones(len(tokens), 768)

    replace(embedder, "encode_text", encode_text)
    with pytest.raises(FatalError, match="has not answered"):
        embedder.embed_text(NAME)
    ended.set()
    embedder.close()


def test_a_closed_embedder_is_unavailable(embedder: Embedder) -> None:
    embedder.close()
    with pytest.raises(Unavailable):
        embedder.embed_text(NAME)


def test_warming_up_returns_the_seconds_it_took(embedder: Embedder) -> None:
    started = time.monotonic()
    seconds = embedder.warm_up()
    assert 0 < seconds <= time.monotonic() - started


def with_weights(
    tiny: TinyClip, directory: Path, changes: Mapping[str, Callable[[torch.Tensor], Any]]
) -> Settings:
    """Settings of a model whose weights of these names have been changed in place."""
    weights = load_file(tiny.weights_path)
    for name, change in changes.items():
        change(weights[name])
    changed = directory / "changed.safetensors"
    save_file(weights, changed)
    return Settings.model_validate(tiny.settings | {"openclip_pretrained": str(changed)})


def refused_warm_up(embedder: Embedder) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        embedder.warm_up()
    embedder.close()
    return raised.value


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("visual.proj", torch.Tensor.zero_, "no length for an ordinary image"),
        ("text_projection", lambda w: w.fill_(3e38), "not finite or has no length for an ordinary"),
        ("visual.ln_post.weight", torch.Tensor.zero_, "two different images the same embedding"),
        ("token_embedding.weight", torch.Tensor.zero_, "two different names the same embedding"),
    ],
)
def test_weights_that_give_no_useful_embedding_are_refused_at_the_start(
    tiny: TinyClip,
    tmp_path: Path,
    name: str,
    change: Callable[[torch.Tensor], Any],
    problem: str,
) -> None:
    bias = {"visual.ln_post.bias": torch.Tensor.normal_, "ln_final.bias": torch.Tensor.normal_}
    settings = with_weights(tiny, tmp_path, {name: change} | bias)
    error = refused_warm_up(load_embedder(settings))
    assert error.setting == "OPENCLIP_PRETRAINED"
    described = f"tiny-embedding with the weights {settings.openclip_pretrained} in float32"
    assert described in error.problem
    assert problem in error.problem


@pytest.mark.parametrize("side", ["encode_image", "encode_text"])
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_model_that_fails_at_ordinary_items_only_is_refused(
    embedder: Embedder, side: str, value: float
) -> None:
    encode = getattr(embedder._loaded.model, side)

    def encode_ordinary(inputs: torch.Tensor) -> Any:
        is_plain = (inputs.reshape(len(inputs), -1).diff(dim=1) == 0).all()
        return encode(inputs) if is_plain else torch.full((len(inputs), 768), value)

    replace(embedder, side, encode_ordinary)
    assert "gives an embedding that is not finite" in refused_warm_up(embedder).problem


def test_a_model_that_fails_in_batches_only_is_refused_by_the_setting_that_helps(
    embedder: Embedder,
) -> None:
    encode = embedder._loaded.model.encode_image

    def encode_image(values: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = encode(values).clone()
        return rows if len(values) == 1 else rows * float("nan")

    replace(embedder, "encode_image", encode_image)
    assert refused_warm_up(embedder).setting == "MODEL_MAX_BATCH"


def test_a_model_that_was_never_trained_is_tried_without_complaint(embedder: Embedder) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = open_clip.CLIP(**model_config()).eval()
    replace(embedder, "encode_image", untrained.encode_image)
    replace(embedder, "encode_text", untrained.encode_text)
    embedder.warm_up()


def in_half_precision(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, dtype: torch.dtype = torch.float16
) -> Embedder:
    monkeypatch.setattr(loading, "choose_dtype", lambda _: dtype)
    return load_embedder(settings)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("visual.ln_post.weight", lambda w: w.fill_(60_000), id="images"),
        pytest.param("token_embedding.weight", lambda w: w[400].fill_(1e6), id="one word"),
    ],
)
def test_a_model_that_overflows_in_float16_runs_in_float32(
    tmp_path: Path,
    tiny: TinyClip,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    change: Callable[[torch.Tensor], Any],
) -> None:
    embedder = in_half_precision(monkeypatch, with_weights(tiny, tmp_path, {name: change}))
    embedder.warm_up()
    assert {parameter.dtype for parameter in embedder._loaded.model.parameters()} == {torch.float32}
    embedder.close()
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "in float16" in warning.message
    assert "tried in float32" in warning.message


def test_a_model_that_works_in_float16_stays_in_it(
    tiny: TinyClip, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    embedder = in_half_precision(monkeypatch, Settings.model_validate(tiny.settings))
    embedder.warm_up()
    embedder.close()
    assert {parameter.dtype for parameter in embedder._loaded.model.parameters()} == {torch.float16}
    assert "float32" not in caplog.text


def test_a_model_that_works_in_neither_precision_is_refused(
    tiny: TinyClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_weights(tiny, tmp_path, {"visual.proj": torch.Tensor.zero_})
    embedder = in_half_precision(monkeypatch, settings)
    assert "in float32 gives" in refused_warm_up(embedder).problem


def test_a_model_that_cannot_run_at_all_ends_the_start(embedder: Embedder) -> None:
    def encode_image(values: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    replace(embedder, "encode_image", encode_image)
    with pytest.raises(FatalError, match="cannot run on cpu"):
        embedder.warm_up()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_keeps_the_direction_of_embeddings(
    tiny: TinyClip, embedder: Embedder, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(loading, "choose_dtype", lambda _: dtype)
    lower = load_embedder(Settings.model_validate(tiny.settings))
    assert {parameter.dtype for parameter in lower._loaded.model.parameters()} == {dtype}
    # The weights of this model are large, so that small differences are visible.
    assert cosine(lower.embed_text(NAME), embedder.embed_text(NAME)) > 0.99
    assert cosine(lower.embed_image(noisy_image()), embedder.embed_image(noisy_image())) > 0.99
    assert lower.model_id == embedder.model_id
    lower.close()


def test_a_product_among_longer_names_has_the_embedding_it_has_alone(embedder: Embedder) -> None:
    short, long = (prepared(embedder, noisy_image(), name) for name in ("mug", "mug " * 60))
    alone = embeddings(embedder.embed([short])[0])
    among = embeddings(embedder.embed([short, long])[0])
    assert np.allclose(alone.text, among.text, atol=1e-6)
