"""Arithmetic on a whole batch gives each embedding what it would get alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.vectors import Embedding, combine, pack, stack, unpack

DIMENSION = 24
SEEDS = st.lists(st.integers(0, 10_000), min_size=1, max_size=8)


def unit(seed: int) -> Embedding:
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


@given(SEEDS)
def test_unpacked_embeddings_are_the_packed_ones_in_order_and_of_unit_length(seeds: list[int]):
    embeddings = [unit(seed) for seed in seeds]

    unpacked = unpack(pack(embeddings))

    assert len(unpacked) == len(embeddings)
    for embedding, expected in zip(unpacked, embeddings, strict=True):
        assert embedding.dtype == np.float32
        assert float(embedding @ expected) > 1 - 1e-6
        assert float(np.linalg.norm(embedding)) == pytest.approx(1, abs=1e-6)


@given(SEEDS)
def test_a_batch_is_combined_row_by_row(seeds: list[int]):
    texts, images = [unit(seed) for seed in seeds], [unit(seed + 1) for seed in seeds]

    for combined, text, image in zip(combine(texts, images), texts, images, strict=True):
        assert combined == pytest.approx((text + image) / np.linalg.norm(text + image), abs=1e-6)


def test_where_image_and_text_cancel_out_the_text_is_taken_and_its_neighbours_are_not():
    text, other = unit(1), unit(2)

    cancelled, combined = combine([text, text], [-text, other])

    assert cancelled == pytest.approx(text)
    assert combined == pytest.approx((text + other) / np.linalg.norm(text + other), abs=1e-6)


def test_a_vector_without_length_stays_as_it_is():
    nothing, something = unpack(pack([np.zeros(DIMENSION, np.float32), unit(3)]))

    assert not nothing.any()
    assert something == pytest.approx(unit(3), abs=1e-3)


def test_no_embeddings_give_no_embeddings():
    assert unpack([]) == []
    assert combine([], []) == []


def test_vectors_that_are_not_contiguous_or_not_float32_are_stacked_by_value():
    matrix = np.arange(12, dtype=np.float64).reshape(4, 3)

    assert stack([matrix[:, 0], matrix[:, 2]]).tolist() == [[0, 3, 6, 9], [2, 5, 8, 11]]


def test_vectors_of_different_dimensions_are_refused_rather_than_cut_elsewhere():
    with pytest.raises(ValueError, match="different dimensions"):
        unpack([unit(1).astype(np.float16).tobytes(), b"\0\0" * 2 * DIMENSION])
