"""The model that ships with the demo: small, whole, and good enough on images it never saw."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from product_consumer.demo import tiny_model
from product_consumer.demo.drawings.drawing import COLOURS, KINDS
from product_consumer.demo.training.captions import UNKNOWN, tokenise, write_captions
from product_consumer.demo.training.evaluation import DemoModel, retrieval_rates
from product_consumer.demo.training.train_model import graded_loss, new_model, with_unknown_words
from product_consumer.models import VECTOR_FIELDS

# The word in front of every seed keeps training and catalogues apart; this number is also unused.
FRESH_SEED = 31_337


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.unpack_weights(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(weights: Path) -> DemoModel:
    return DemoModel(weights)


@pytest.mark.parametrize("query", ["{colour} {kind}", "I want a nice {colour} {kind}!"])
def test_words_find_products_that_training_never_saw(model: DemoModel, query: str) -> None:
    rates = retrieval_rates(model, FRESH_SEED, query=query)

    assert set(rates) == set(VECTOR_FIELDS)
    for field, rate in rates.items():
        assert rate.kind >= 0.9, field
        assert rate.kind_and_colour >= 0.8, field


def test_a_kind_alone_finds_names_of_that_kind_in_any_colour(model: DemoModel) -> None:
    names = [f"{colour} {kind}" for kind in KINDS for colour in COLOURS]
    similarities = model.embed_texts(KINDS) @ model.embed_texts(names).T

    for row, kind in zip(similarities, KINDS, strict=True):
        best = np.argsort(row)[-len(COLOURS) :]
        assert all(names[at].endswith(f" {kind}") for at in best)


def test_embeddings_are_768_floats_of_unit_length(model: DemoModel) -> None:
    embeddings = model.embed_texts(["red mug", "word that nobody taught it"])

    assert embeddings.shape == (2, 768)
    assert embeddings.dtype == np.float32
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_shipped_weights_stay_under_one_megabyte() -> None:
    assert tiny_model.PACKED_WEIGHTS.stat().st_size < 1_000_000


def test_words_outside_the_training_captions_have_zero_rows(weights: Path) -> None:
    table = load_file(weights)["token_embedding.weight"]

    assert table.shape[0] == 49_408
    assert 20 < int((table.abs().sum(dim=1) > 0).sum()) < 500


def test_unpacking_twice_leaves_the_file_untouched(tmp_path: Path) -> None:
    before = tiny_model.unpack_weights(tmp_path).stat()
    after = tiny_model.unpack_weights(tmp_path).stat()

    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_damaged_file_is_replaced(tmp_path: Path, weights: Path) -> None:
    target = tmp_path / weights.name
    target.write_bytes(weights.read_bytes()[:-1])

    assert tiny_model.unpack_weights(tmp_path).read_bytes() == weights.read_bytes()


def test_unpacking_at_once_leaves_one_whole_file(tmp_path: Path, weights: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(tiny_model.unpack_weights, [tmp_path / "new"] * 4))

    assert [path.name for path in (tmp_path / "new").iterdir()] == [weights.name]
    assert paths.pop().read_bytes() == weights.read_bytes()


def test_every_caption_keeps_its_words_when_unknown_ones_are_added() -> None:
    captions, _ = tokenise(write_captions(seed=4)[:200])
    before = captions.inputs

    after = with_unknown_words(before, share=1.0)

    assert after.shape[1] > before.shape[1]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[old != UNKNOWN], new[new != UNKNOWN])
        last = int(torch.nonzero(new).max())
        assert (new[:last] == UNKNOWN).any()


def test_the_training_loss_is_lower_for_right_pairs_than_for_wrong_ones() -> None:
    captions, _ = tokenise(write_captions(seed=4)[:2000:50])
    right = torch.nn.functional.one_hot(captions.kinds * len(COLOURS) + captions.colours).float()
    right = torch.nn.functional.normalize(right, dim=-1)

    assert graded_loss(right, right, captions, captions) < graded_loss(
        right, right.roll(len(COLOURS), dims=0), captions, captions
    )


def test_the_untrained_model_is_built_from_the_shipped_configuration() -> None:
    model, preprocess = new_model()

    assert model.visual.image_size in (64, (64, 64))
    assert model.visual.output_dim == 768
    assert callable(preprocess)
