"""Hits of the stores become products of the ledger, best first; rankings are fused."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.models import Embeddings, Hit, ProductRow
from product_consumer.search.searcher import (
    RECIPROCAL_RANK_CONSTANT,
    Searcher,
    SearchResult,
    fuse,
)
from product_consumer.stores.opening import Stores
from product_consumer.vectors import Embedding
from tests.support.factories import product_row

RED, GREEN, BLUE = np.eye(3, dtype=np.float32)
DIAGONAL = ((RED + GREEN) / np.sqrt(2)).astype(np.float32)
PIXELS = np.zeros((8, 8, 3), dtype=np.uint8)


class FakeLedger:
    def __init__(self, *rows: ProductRow) -> None:
        self._rows = {row.id: row for row in rows}

    def rows(self, product_ids: Iterable[str]) -> dict[str, ProductRow]:
        return {key: self._rows[key] for key in product_ids if key in self._rows}


class FakeStore:
    """Returns the hits that it was given; keeps its queries."""

    def __init__(self, *hits: Hit, vector_fields: tuple[str, ...] = ("text", "image")) -> None:
        self.vector_fields = vector_fields
        self.queries: list[tuple[Any, ...]] = []
        self._hits = list(hits)

    def search_vector(self, field: str, embedding: Embedding, limit: int) -> list[Hit]:
        self.queries.append((field, embedding, limit))
        return self._hits[:limit]

    def search_keywords(self, text: str, limit: int) -> list[Hit]:
        self.queries.append((text, limit))
        return self._hits[:limit]


class FakeEmbedder:
    """Every text is red, every image green."""

    def embed_text(self, _text: str) -> Embedding:
        return RED

    def embed_image(self, _pixels: object) -> Embedding:
        return GREEN


def row(product_id: str, image: Embedding = BLUE, **changes: Any) -> ProductRow:
    return product_row(id=product_id, embeddings=Embeddings(text=BLUE, image=image), **changes)


def hit(product_id: str, score: float, revision: int = 1) -> Hit:
    return Hit(product_id, score, revision)


def searcher(
    ledger: FakeLedger,
    vectors: FakeStore | None = None,
    keywords: FakeStore | None = None,
    embedder: FakeEmbedder | None = FakeEmbedder(),  # noqa: B008
) -> Searcher:
    stores: Any = Stores(vectors or FakeStore(), keywords or FakeStore())  # type: ignore[arg-type]
    return Searcher(ledger, stores, embedder)  # type: ignore[arg-type]


def scores_of(results: Iterable[SearchResult]) -> list[tuple[str, float]]:
    return [(result.row.id, round(result.score, 6)) for result in results]


def test_hits_become_the_ledgers_rows_best_first() -> None:
    ledger = FakeLedger(row("a"), row("b"))
    store = FakeStore(hit("b", 0.9), hit("a", 0.4))

    assert scores_of(searcher(ledger, store).search(text="mug")) == [("b", 0.9), ("a", 0.4)]


def test_a_deleted_or_unknown_product_is_no_result() -> None:
    ledger = FakeLedger(row("a", deleted=True), row("c"))
    store = FakeStore(hit("a", 0.9), hit("b", 0.8), hit("c", 0.7))

    assert scores_of(searcher(ledger, store).search(text="mug")) == [("c", 0.7)]


def test_a_hit_of_another_revision_is_scored_by_the_ledgers_embedding() -> None:
    ledger = FakeLedger(row("a"), row("b", image=GREEN, revision=2))
    store = FakeStore(hit("a", 0.9), hit("b", 0.1, revision=1))

    assert scores_of(searcher(ledger, store).search(pixels=PIXELS)) == [("b", 1.0), ("a", 0.9)]


def test_a_product_that_was_never_embedded_is_the_least_similar() -> None:
    ledger = FakeLedger(row("a"), product_row(id="b", embeddings=None, revision=2))
    store = FakeStore(hit("b", 0.9, revision=1), hit("a", 0.4))

    assert scores_of(searcher(ledger, store).search(text="mug")) == [("a", 0.4), ("b", 0.0)]


@pytest.mark.parametrize(
    ("query", "held", "field"),
    [
        ({"text": "mug"}, ("text", "image", "combined"), "combined"),
        ({"text": "mug"}, ("text", "image"), "text"),
        ({"text": "mug"}, ("image",), "image"),
        ({"pixels": PIXELS}, ("text", "image", "combined"), "image"),
        ({"pixels": PIXELS}, ("text", "combined"), "combined"),
        ({"text": "mug", "pixels": PIXELS}, ("text", "image", "combined"), "combined"),
        ({"text": "mug", "pixels": PIXELS}, ("text", "image"), "image"),
    ],
)
def test_a_query_is_compared_with_the_best_vector_field_that_the_store_holds(
    query: dict[str, Any], held: tuple[str, ...], field: str
) -> None:
    store = FakeStore(vector_fields=held)
    searcher(FakeLedger(), store).search(**query)

    assert store.queries[0][0] == field


def test_text_and_image_together_are_one_query_of_unit_length() -> None:
    store = FakeStore()
    searcher(FakeLedger(), store).search(text="mug", pixels=PIXELS)

    [(_, query, _)] = store.queries
    assert query == pytest.approx(DIAGONAL)


def test_a_store_is_asked_for_more_than_the_limit_because_some_hits_fall_away() -> None:
    ledger = FakeLedger(*(row(f"p{n}") for n in range(9)))
    store = FakeStore(*(hit(f"p{n}", 1 - n / 10) for n in range(9)))

    assert len(searcher(ledger, store).search(text="mug", limit=2)) == 2
    assert store.queries[0][2] == 6


def test_keywords_alone_need_no_model() -> None:
    ledger = FakeLedger(row("a"))
    keywords = FakeStore(hit("a", 7.5))

    results = searcher(ledger, keywords=keywords, embedder=None).search(keywords="red mug")

    assert scores_of(results) == [("a", 7.5)]
    assert keywords.queries == [("red mug", 30)]


def test_text_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the model"):
        searcher(FakeLedger(), embedder=None).search(text="mug")


def test_nothing_to_search_for_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to search for"):
        searcher(FakeLedger()).search()


def test_keywords_and_text_are_fused_by_rank() -> None:
    ledger = FakeLedger(row("a"), row("b"), row("c"))
    vectors = FakeStore(hit("a", 0.9), hit("b", 0.8))
    keywords = FakeStore(hit("b", 99.0), hit("c", 1.0))

    results = searcher(ledger, vectors, keywords).search(text="mug", keywords="mug")

    first, second = (1 / (RECIPROCAL_RANK_CONSTANT + rank) for rank in (1, 2))
    assert scores_of(results) == [
        ("b", round(first + second, 6)),
        ("a", round(first, 6)),
        ("c", round(second, 6)),
    ]


RANKINGS = st.lists(
    st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8), min_size=1, max_size=4
)


def ranked(*product_ids: str) -> list[SearchResult]:
    return [SearchResult(row(product_id), 0.0) for product_id in product_ids]


@given(RANKINGS)
def test_a_fused_ranking_holds_every_product_once_in_falling_order(
    rankings: list[list[str]],
) -> None:
    results = fuse([ranked(*ranking) for ranking in rankings])

    assert sorted(result.row.id for result in results) == sorted(set().union(*rankings))
    scores = [result.score for result in results]
    assert scores == sorted(scores, reverse=True)


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.integers(1, 4))
def test_rankings_that_agree_are_fused_into_the_same_order(order: list[str], count: int) -> None:
    results = fuse([ranked(*order)] * count)

    assert [result.row.id for result in results] == order


@given(RANKINGS)
def test_a_product_that_no_ranking_has_lower_is_not_lower_in_the_fused_ranking(
    rankings: list[list[str]],
) -> None:
    position = {result.row.id: n for n, result in enumerate(fuse([ranked(*r) for r in rankings]))}

    for better in position:
        for worse in position:
            ranks = [(rank_in(better, r), rank_in(worse, r)) for r in rankings]
            if all(left <= right for left, right in ranks) and any(a < b for a, b in ranks):
                assert position[better] < position[worse]


def rank_in(product_id: str, ranking: list[str]) -> int:
    return ranking.index(product_id) if product_id in ranking else len("abcdefgh")
