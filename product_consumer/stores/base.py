"""The contract of a store: a place where products can be found.

A store holds for each product the row that the ledger calls current. The ledger alone decides which
message is newest. A store is given current rows only; it may refuse an older row than it holds.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from product_consumer.errors import ProductConsumerError
from product_consumer.models import Hit, ProductRow, StoreIdentity
from product_consumer.vectors import Embedding

MAX_SEARCH_LIMIT = 1000
"""Most hits one search may ask for."""


class ProductStore(Protocol):
    """A place that holds the current row of every product.

    Thread-safe; every method has a timeout. Methods raise ``StoreUnavailable`` when the store
    cannot be reached or is overloaded. They raise ``ConfigurationError`` when no retry can help
    (another ledger's rows, a model of another dimension, refused credentials).
    """

    name: str
    """For log lines and settings: ``milvus``, ``elasticsearch``, ``sqlite_search``, ``memory``."""

    def setup(self, identity: StoreIdentity) -> None:
        """Create what is missing, then verify it; called once before any other method.

        Safe when several processes start together on an empty store and when one was killed
        half-way. Raises ``ConfigurationError`` when the store belongs to another ledger or model.
        """
        ...

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """Write these rows; remove the products whose row is ``deleted``.

        Returns the rows that failed on their own, by product id (empty when all were taken). Where
        the store can compare, a row older than the stored one changes nothing and is no failure. A
        product occurs at most once in ``rows``. Afterwards ``read_revisions`` sees the rows.
        """
        ...

    def read_revisions(self, product_ids: Sequence[str]) -> dict[str, int]:
        """Return the revision of each product that the store has; the others are left out."""
        ...

    def describe(self) -> str:
        """Return one line for people about the store: address, version, number of products.

        Raises as above. It counts, which may take long; the store has been set up before.
        """
        ...

    def close(self) -> None:
        """Close connections; called once, after the last other call."""
        ...


class VectorStore(ProductStore, Protocol):
    """A store that finds products by embedding."""

    vector_fields: tuple[str, ...]
    """Which of ``VECTOR_FIELDS`` it holds."""

    def search_vector(self, field: str, embedding: Embedding, limit: int) -> list[Hit]:
        """Return the nearest products by cosine similarity (``score``), nearest first.

        ``field`` is one of ``vector_fields``; ``embedding``: unit length, float32, shape
        (dimension,). At most ``MAX_SEARCH_LIMIT`` products are returned.
        """
        ...


class KeywordStore(ProductStore, Protocol):
    """A store that finds products by the words of their names, whatever their case and accents."""

    def search_keywords(self, text: str, limit: int) -> list[Hit]:
        """Return products that share words with ``text``, best first.

        Any text is data, never query syntax. At most ``MAX_SEARCH_LIMIT`` products are returned.
        """
        ...
