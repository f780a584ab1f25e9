"""Rows of the ledger as values of ours, and the other way round."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, select

from product_consumer.ledger_schema import products
from product_consumer.models import (
    Embedding,
    Embeddings,
    PictureSource,
    Product,
    ProductRow,
    Version,
)

ROW_COLUMNS = (
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
    products.c.text_embedding,
    products.c.image_embedding,
)
KNOWN_COLUMNS = (
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
    products.c.text_embedding,
    products.c.image_embedding,
)
_ROWS = select(*ROW_COLUMNS).where(products.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Change:
    """One message's effect. ``embeddings`` is None for a tombstone and for a message that the
    ledger already outdates.
    """

    product: Product
    embeddings: Embeddings | None
    picture: PictureSource | None = None


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """The picture and vectors that the ledger holds for a product."""

    name: str
    image_url: str
    source: PictureSource
    embeddings: Embeddings


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of one message's product.

    ``is_outdated``: the stored state equals the message or outdates it. It needs no image and no
    embedding then; versions only grow, so that stays true. ``picture`` is None for such a message,
    and where there are no vectors of the present model.
    """

    is_outdated: bool = False
    picture: KnownPicture | None = None


def select_rows(connection: Connection, product_ids: set[str]) -> dict[str, ProductRow]:
    """Return the current row of each of the products that exists."""
    found = connection.execute(_ROWS, {"ids": list(product_ids)})
    return {row.id: as_product_row(row) for row in found}


def as_product_row(row: Any) -> ProductRow:
    """Turn a row of ``ROW_COLUMNS`` into what stores are given."""
    embeddings = None
    if row.text_embedding is not None and row.image_embedding is not None:
        embeddings = Embeddings(unpack(row.text_embedding), unpack(row.image_embedding))
    plain = {name: value for name, value in row._mapping.items() if not name.endswith("_embedding")}
    return ProductRow(**plain, embeddings=embeddings)


def as_known(row: Any, version: Version, model_id: str | None) -> Known:
    """Compare a row of ``KNOWN_COLUMNS`` with a message of this version."""
    stored = Version(row.version_rank, row.version_value, row.payload_hash)
    if version <= stored:
        return Known(is_outdated=True)
    if row.image_sha256 is None or row.model_id != model_id:
        return Known()
    source = PictureSource(row.image_sha256, row.image_etag, row.image_last_modified)
    embeddings = Embeddings(unpack(row.text_embedding), unpack(row.image_embedding))
    return Known(picture=KnownPicture(row.name, row.image_url, source, embeddings))


def pack(embedding: Embedding) -> bytes:
    """Return the vector as float16: half the size, 1 - cosine under 1e-6."""
    return embedding.astype(np.float16).tobytes()


def unpack(packed: bytes) -> Embedding:
    """Return the vector that ``pack`` packed, of unit length."""
    # Rounding to float16 moved the length by up to 5e-4; readers are promised unit length.
    vector = np.frombuffer(packed, dtype=np.float16).astype(np.float32)
    # Ten times as fast as numpy's norm for a row, and called for every vector of every message.
    length = math.sqrt(vector.dot(vector))
    return vector / np.float32(length) if length > 0 else vector
