"""Values of the ledger: the change that a message asks for, the result of a look-up, and rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from product_consumer.database.connection import Database
from product_consumer.ledger.tables import products
from product_consumer.models import Embeddings, ImageSource, Product, ProductRow, Version
from product_consumer.vectors import unpack

PLAIN_COLUMNS = (
    products.c.id,
    products.c.revision,
    products.c.deleted,
    products.c.name,
    products.c.store_url,
    products.c.price_minor,
    products.c.currency,
    products.c.rating,
    products.c.reviews_count,
    products.c.image_url,
    products.c.last_update,
)
"""The fields of ``ProductRow`` in their order, up to its embeddings."""
EMBEDDING_COLUMNS = (products.c.text_embedding, products.c.image_embedding)
LOOK_UP_COLUMNS = (
    products.c.id,
    products.c.version_rank,
    products.c.version_value,
    products.c.payload_hash,
    products.c.model_id,
    products.c.name,
    products.c.image_url,
    products.c.image_sha256,
    products.c.image_etag,
    products.c.image_last_modified,
    *EMBEDDING_COLUMNS,
)


@dataclass(frozen=True, slots=True)
class ProductChange:
    """The change that one message asks for."""

    product: Product
    embeddings: Embeddings | None
    """None for a tombstone, and for a message that the ledger already outdates."""
    image_source: ImageSource | None = None
    """The image that ``embeddings.image`` was made of."""


@dataclass(frozen=True, slots=True)
class KnownImage:
    """A product's image in the ledger: its source, and the name and embeddings stored with it."""

    name: str
    image_url: str
    source: ImageSource
    embeddings: Embeddings


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The ledger's product compared with one message."""

    is_outdated: bool = False
    """The stored state equals the message or is newer. Such a message needs no image and no
    embedding. Versions only grow, so that stays true."""
    image: KnownImage | None = None
    """None for an outdated message, and where there are no embeddings of the present model."""


class RowReader:
    """The query for current rows of products, as stores are given them. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._texts = database.texts
        is_listed = database.among(products.c.id, "ids")
        self._statement = select(*PLAIN_COLUMNS, *EMBEDDING_COLUMNS).where(is_listed)

    def __call__(self, connection: Connection, product_ids: Iterable[str]) -> dict[str, ProductRow]:
        """Return the current row of each of the products that exists."""
        rows = connection.execute(self._statement, {"ids": self._texts(product_ids)}).all()
        embeddings = unpack_embeddings(rows)
        return {row.id: as_product_row(row, embeddings.get(row.id)) for row in rows}


def as_product_row(row: Any, embeddings: Embeddings | None) -> ProductRow:
    """Join a row that begins with ``PLAIN_COLUMNS`` and its embeddings."""
    fields: list[Any] = [*row[: len(PLAIN_COLUMNS)], embeddings]
    return ProductRow(*fields)


def unpack_embeddings(rows: Sequence[Any]) -> dict[str, Embeddings]:
    """Return the embeddings, by product id, of the rows that have both.

    They are stored as float16 and returned as float32, shape (dimension,), unit length.
    """
    complete = [
        row for row in rows if row.text_embedding is not None and row.image_embedding is not None
    ]
    texts = unpack([row.text_embedding for row in complete])
    images = unpack([row.image_embedding for row in complete])
    return {
        row.id: Embeddings(text, image)
        for row, text, image in zip(complete, texts, images, strict=True)
    }


def as_looked_up(
    row: Any, embeddings: Embeddings | None, version: Version, model_id: str | None
) -> LookedUp:
    """Compare a row of ``LOOK_UP_COLUMNS`` with a message of this version."""
    stored = Version(row.version_rank, row.version_value, row.payload_hash)
    if version <= stored:
        return LookedUp(is_outdated=True)
    if row.image_sha256 is None or row.model_id != model_id or embeddings is None:
        return LookedUp()
    source = ImageSource(row.image_sha256, row.image_etag, row.image_last_modified)
    return LookedUp(image=KnownImage(row.name, row.image_url, source, embeddings))
