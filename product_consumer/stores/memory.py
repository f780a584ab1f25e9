"""A store in memory, for tests: the contract of ``base.py`` without a server or a file."""

import threading
from collections.abc import Mapping, Sequence

from product_consumer.errors import ConfigurationError, ProductConsumerError
from product_consumer.models import VECTOR_FIELDS, Hit, ProductRow, StoreIdentity
from product_consumer.stores.base import MAX_SEARCH_LIMIT
from product_consumer.stores.text_folding import MAX_QUERY_CHARACTERS, words
from product_consumer.vectors import Embedding


class InMemoryStore:
    """A ``VectorStore`` and a ``KeywordStore`` in memory. Thread-safe.

    It compares revisions: an older row never replaces a newer one, even a deleted one.
    """

    name = "memory"

    def __init__(self, vector_fields: tuple[str, ...] = VECTOR_FIELDS) -> None:
        self.vector_fields = vector_fields
        self._identity: StoreIdentity | None = None
        self._rows: dict[str, ProductRow] = {}
        self._lock = threading.Lock()

    def setup(self, identity: StoreIdentity) -> None:
        """Keep the first identity; raise ``ConfigurationError`` for another."""
        with self._lock:
            owner = self._identity = self._identity or identity
        if owner.ledger_id != identity.ledger_id:
            raise ConfigurationError(
                "DATABASE_URL", "the store in memory belongs to another ledger"
            )
        if owner != identity:
            raise ConfigurationError(
                "OPENCLIP_MODEL", f"the store holds embeddings of {owner.model_id}"
            )

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """Keep each row that is not older than the kept one; none fails."""
        with self._lock:
            for row in rows:
                stored = self._rows.get(row.id)
                if stored is None or row.revision >= stored.revision:
                    self._rows[row.id] = row
        return {}

    def read_revisions(self, product_ids: Sequence[str]) -> dict[str, int]:
        """Return the revision of each product that is kept and not deleted."""
        ids = set(product_ids)
        return {row.id: row.revision for row in self._present() if row.id in ids}

    def search_vector(self, field: str, embedding: Embedding, limit: int) -> list[Hit]:
        """Compare the embedding with every product's (exact search)."""
        return _best(
            [
                Hit(row.id, float(row.embeddings.by_field(field) @ embedding), row.revision)
                for row in self._present()
                if row.embeddings is not None
            ],
            limit,
        )

    def search_keywords(self, text: str, limit: int) -> list[Hit]:
        """Compare the words with every product's name; the score counts the words shared."""
        query_words = set(words(text[:MAX_QUERY_CHARACTERS]))
        hits = [
            Hit(row.id, float(len(query_words.intersection(words(row.name)))), row.revision)
            for row in self._present()
        ]
        return _best([hit for hit in hits if hit.score > 0], limit)

    def describe(self) -> str:
        """Return the number of products that are not deleted."""
        return f"memory, {len(self._present())} products"

    def close(self) -> None:
        """Do nothing: the rows stay as long as the object."""

    def _present(self) -> list[ProductRow]:
        with self._lock:
            return [row for row in self._rows.values() if not row.deleted]


def _best(hits: list[Hit], limit: int) -> list[Hit]:
    by_score = sorted(hits, key=lambda hit: hit.score, reverse=True)
    return by_score[: max(0, min(limit, MAX_SEARCH_LIMIT))]
