"""Search by text, image or keywords, or fused; every hit is joined with the ledger."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from product_consumer.ledger.ledger import Ledger
from product_consumer.models import Hit, ProductRow
from product_consumer.stores.opening import Stores
from product_consumer.vectors import Embedding

if TYPE_CHECKING:
    from product_consumer.embedding.embedder import Embedder

RECIPROCAL_RANK_CONSTANT = 60
"""k of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""

_OVERSAMPLING = 3

# The vector field to compare a query with, best first; a collection may hold only some of them.
_FIELDS_FOR_TEXT = ("combined", "text", "image")
_FIELDS_FOR_AN_IMAGE = ("image", "combined", "text")
_FIELDS_FOR_BOTH = ("combined", "image", "text")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A product that a search returns, as the ledger has it."""

    row: ProductRow
    score: float
    """Cosine similarity (-1 to 1), the keyword store's relevance, or the fused rank; higher is
    better. Comparable within one search only."""


class Searcher:
    """Searches the stores and returns products of the ledger.

    Thread-safe, as the ledger, the stores and the embedder are.
    """

    def __init__(self, ledger: Ledger, stores: Stores, embedder: "Embedder | None") -> None:
        self._ledger = ledger
        self._stores = stores
        self._embedder = embedder

    def search(
        self,
        *,
        text: str | None = None,
        pixels: NDArray[np.uint8] | None = None,
        keywords: str | None = None,
        limit: int = 10,
    ) -> list[SearchResult]:
        """Return the best products first, at most ``limit``.

        ``text`` and ``pixels`` together are one query; the result for ``keywords`` is fused with
        theirs. ``pixels``: a decoded RGB image, uint8, shape (height, width, 3). Raises
        ``ValueError`` for an empty query and ``Unavailable`` when a store is down.
        """
        rankings = []
        if text is not None or pixels is not None:
            rankings.append(self._by_embedding(text, pixels, limit * _OVERSAMPLING))
        if keywords is not None:
            hits = self._stores.keywords.search_keywords(keywords, limit * _OVERSAMPLING)
            rankings.append(self._joined(hits))
        if not rankings:
            raise ValueError("nothing to search for: give text, an image or keywords")
        ranked = rankings[0] if len(rankings) == 1 else fuse(rankings)
        return ranked[:limit]

    def _by_embedding(
        self, text: str | None, pixels: NDArray[np.uint8] | None, limit: int
    ) -> list[SearchResult]:
        if self._embedder is None:
            raise ValueError("searching by text or image needs the model")
        embeddings = []
        if text is not None:
            embeddings.append(self._embedder.embed_text(text))
        if pixels is not None:
            embeddings.append(self._embedder.embed_image(pixels))
        preferred = _FIELDS_FOR_BOTH if len(embeddings) == 2 else _FIELDS_FOR_TEXT
        if text is None:
            preferred = _FIELDS_FOR_AN_IMAGE
        field = next(name for name in preferred if name in self._stores.vectors.vector_fields)
        query = _normalised(np.sum(embeddings, axis=0, dtype=np.float32))
        hits = self._stores.vectors.search_vector(field, query, limit)
        return self._joined(hits, lambda row: _similarity(row, field, query))

    def _joined(
        self, hits: Sequence[Hit], rescore: Callable[[ProductRow], float] | None = None
    ) -> list[SearchResult]:
        """Replace hits by the ledger's rows.

        Deleted products are left out. A hit of another revision is scored again by ``rescore``.
        """
        rows: Mapping[str, ProductRow] = self._ledger.rows(hit.product_id for hit in hits)
        results = []
        for hit in hits:
            row = rows.get(hit.product_id)
            if row is None or row.deleted:
                continue
            score = hit.score
            if rescore is not None and row.revision != hit.revision:
                score = rescore(row)
            results.append(SearchResult(row, score))
        if rescore is not None:
            results.sort(key=lambda result: -result.score)
        return results


def fuse(rankings: Sequence[Sequence[SearchResult]]) -> list[SearchResult]:
    """Merge rankings by reciprocal rank: scores of two engines cannot be compared, ranks can."""
    scores: dict[str, float] = {}
    rows: dict[str, ProductRow] = {}
    for ranking in rankings:
        for rank, result in enumerate(ranking, 1):
            rows[result.row.id] = result.row
            share = 1.0 / (RECIPROCAL_RANK_CONSTANT + rank)
            scores[result.row.id] = scores.get(result.row.id, 0.0) + share
    best = sorted(scores, key=lambda product_id: -scores[product_id])
    return [SearchResult(rows[product_id], scores[product_id]) for product_id in best]


def _similarity(row: ProductRow, field: str, query: Embedding) -> float:
    return 0.0 if row.embeddings is None else float(row.embeddings.by_field(field) @ query)


def _normalised(embedding: Embedding) -> Embedding:
    length = float(np.linalg.norm(embedding))
    return (embedding / length).astype(np.float32) if length > 0 else embedding
