"""Products as Milvus holds them: fields, rows, filters, and the identity of a collection."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from product_consumer.models import ProductRow, StoreIdentity, embeddings_by_field
from product_consumer.money import price_as_double
from product_consumer.text import cut_to_bytes

TEXT_BYTES = {"name": 65_535, "store_url": 65_535, "image_url": 65_535, "currency": 16}
"""Longest text of each VARCHAR field. Servers count bytes and allow at most 65,535."""

WHOLE_NUMBERS = ("reviews_count", "last_update", "revision")
NULLABLE = ("store_url", "price", "currency", "rating", "reviews_count")
SCALARS = (*TEXT_BYTES, "price", "rating", *WHOLE_NUMBERS)
"""Every field but the key and the vectors."""

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def vector_field(name: str) -> str:
    """Return the Milvus field of one of ``VECTOR_FIELDS``."""
    return f"{name}_embedding"


def to_entities(
    rows: Sequence[ProductRow], vector_fields: Iterable[str], declared: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Return the rows by id as Milvus takes them.

    Each vector is float32, shape (dimension,). Rows without embeddings are left out: Milvus cannot
    hold them.
    """
    complete = [(row, row.embeddings) for row in rows if row.embeddings is not None]
    entities = {row.id: _to_entity(row, declared) for row, _ in complete}
    for name in vector_fields:
        vectors = embeddings_by_field([embeddings for _, embeddings in complete], name)
        for (row, _), vector in zip(complete, vectors, strict=True):
            entities[row.id][vector_field(name)] = vector
    return entities


def _to_entity(row: ProductRow, declared: Collection[str]) -> dict[str, Any]:
    """Return a row without its vectors: prices in major units, times in epoch milliseconds.

    An unknown value is null where its field is ``declared`` in the schema. Where the field is
    dynamic, it is left out and reads back as absent.
    """
    entity: dict[str, Any] = {
        "id": row.id,
        "name": cut_to_bytes(row.name, TEXT_BYTES["name"]),
        "store_url": row.store_url and cut_to_bytes(row.store_url, TEXT_BYTES["store_url"]),
        "price": price_as_double(row.price_minor, row.currency),
        "currency": row.currency,
        "rating": row.rating,
        "reviews_count": row.reviews_count,
        "last_update": int(row.last_update.timestamp() * 1000),
        "image_url": cut_to_bytes(row.image_url, TEXT_BYTES["image_url"]),
        "revision": row.revision,
    }
    return {k: v for k, v in entity.items() if v is not None or k in declared}


def id_filter(product_ids: Iterable[str]) -> str:
    """Return the expression that matches exactly these ids, whatever characters they hold.

    The client's own ``ids=`` arguments paste ids unescaped. Five characters are escaped: any other
    character stands for itself in a Milvus string. Milvus Lite refuses JSON's ``\\b`` and ``\\u``.
    """
    quoted = (f'"{product_id.translate(_ESCAPES)}"' for product_id in product_ids)
    return f"id in [{', '.join(quoted)}]"


def identity_text(identity: StoreIdentity) -> str:
    """Return the identity as a collection holds it: JSON."""
    return json.dumps(asdict(identity))


def parse_identity(texts: Iterable[str]) -> StoreIdentity | None:
    """Return the first identity among a collection's texts; None where there is none."""
    for text in texts:
        try:
            values = json.loads(text)
            return StoreIdentity(
                ledger_id=str(values["ledger_id"]),
                model_id=str(values["model_id"]),
                dimension=int(values["dimension"]),
            )
        except (ValueError, TypeError, KeyError):
            continue
    return None


def supports_null(server_version: str) -> bool:
    """Return whether nullable fields work. 2.5 brought them; older servers ignore the request."""
    parts = server_version.removeprefix("v").split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return True
    return (int(parts[0]), int(parts[1])) >= (2, 5)


def field_names(description: Mapping[str, Any]) -> set[str]:
    """Return the fields that a described collection declares."""
    return {str(field["name"]) for field in description.get("fields", ())}
