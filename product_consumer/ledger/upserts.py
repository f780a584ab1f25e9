"""Upserts of products: which columns a message replaces, keeps or fills in.

Each takes SQLAlchemy's ``INSERT`` and returns it with its ``ON CONFLICT``.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, or_, tuple_

from product_consumer.ledger.rows import PLAIN_COLUMNS
from product_consumer.ledger.tables import products

# A tombstone has no values for these columns, and leaves them as they were.
CONTENT = (
    "name",
    "store_url",
    "price_minor",
    "currency",
    "rating",
    "reviews_count",
    "image_url",
    "description",
    "category",
    "brand",
    "flags",
    "content_version",
)
_VERSION = ("version_rank", "version_value", "payload_hash")
# A deleted product has no embeddings: a message that is older than its tombstone is never embedded,
# so whether there were any would depend on the order of arrival.
_REPLACED = (
    *("last_update", "deleted", "model_id", "image_sha256", "image_etag", "image_last_modified"),
    *_VERSION,
)
# Each embedding, and the column that it is computed from.
_EMBEDDINGS = {"text_embedding": "name", "image_embedding": "image_sha256"}


def keep_first(insert: Any) -> Any:
    """Let an insert leave out rows that are there."""
    return insert.on_conflict_do_nothing()


def replace_older(insert: Any) -> Any:
    """Let an insert replace an older version and return the rows that it wrote."""
    old, new = products.c, insert.excluded
    changes = _content(new)
    changes |= {name: new[name] for name in _REPLACED}
    changes |= {name: _unless_equal(new, name, source) for name, source in _EMBEDDINGS.items()}
    is_newer = tuple_(*(old[name] for name in _VERSION)) < tuple_(*(new[name] for name in _VERSION))
    return _on_conflict(insert, changes, is_newer).returning(*PLAIN_COLUMNS)


def fill_in(insert: Any) -> Any:
    """Let an insert add to a newer version, or an equal one, and return the ids of changed rows."""
    old, new = products.c, insert.excluded
    is_same = and_(*(old[name] == new[name] for name in _VERSION))
    changes = _content(new)
    changes["last_update"] = case((is_same, new.last_update), else_=old.last_update)
    # A row without a name has no content. One without ``content_version`` is of an earlier program,
    # which does not say how new its content is: it stays.
    has_newer_content = or_(old.name == "", old.content_version < new.content_version)
    adds = or_(
        and_(is_same, old.last_update < new.last_update),
        and_(old.deleted, ~new.deleted, has_newer_content),
    )
    return _on_conflict(insert, changes, adds).returning(products.c.id)


def _content(new: Any) -> dict[str, ColumnElement[Any]]:
    """The content of a new row; a tombstone keeps that of the product which it deletes."""
    return {name: case((new.deleted, products.c[name]), else_=new[name]) for name in CONTENT}


def _on_conflict(
    insert: Any, changes: dict[str, ColumnElement[Any]], condition: ColumnElement[bool]
) -> Any:
    """Let an insert change an existing row, which is then the next revision."""
    changes["revision"] = products.c.revision + 1
    changes["check_after"] = insert.excluded.check_after
    return insert.on_conflict_do_update(
        index_elements=[products.c.id], set_=changes, where=condition
    )


def _unless_equal(new: Any, embedding: str, source: str) -> ColumnElement[Any]:
    """The new embedding, or the stored one where the source and model of both are equal.

    Written again, embeddings would be most of what PostgreSQL writes when only a price changes.
    """
    old = products.c
    is_equal = and_(old[source] == new[source], old.model_id == new.model_id)
    return case((is_equal, old[embedding]), else_=new[embedding])
