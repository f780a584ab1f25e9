"""The one transaction that writes products: compare and set, history, mark, and what is current.

Rows go to PostgreSQL as many runs of one prepared statement, sent together. One statement with many
rows in it was tried: at a hundred rows it costs the client 1.7 times as much, because the driver
has to read a text of thousands of parameters that it never saw before.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, tuple_, update

from product_consumer.ledger_database import Database
from product_consumer.ledger_rows import Change, pack, select_rows
from product_consumer.ledger_schema import UtcTimestamp, price_history, products, review_history
from product_consumer.models import Product, ProductRow

_PICTURE = ("image_sha256", "image_etag", "image_last_modified")
# Columns that a tombstone leaves as they were: it carries none of them.
_PAYLOAD = (
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
)
_DECIDED = ("last_update", "deleted", "version_rank", "version_value", "payload_hash")
_VECTORS = ("text_embedding", "image_embedding", "model_id")

_MARK_OUTDATED = (
    update(products)
    .where(products.c.id.in_(bindparam("ids", expanding=True)))
    .where(products.c.check_after.is_distinct_from(bindparam("mark", type_=UtcTimestamp())))
    .values(check_after=bindparam("mark", type_=UtcTimestamp()))
)


class Recording:
    """Writes changes to one database; thread-safe."""

    def __init__(self, database: Database, repair_horizon: timedelta) -> None:
        self._database = database
        self._repair_horizon = repair_horizon
        self._upsert = _upsert_statement(database)
        self._append = {
            table: database.insert(table).on_conflict_do_nothing()
            for table in (price_history, review_history)
        }

    def record(self, changes: Sequence[Change], model_id: str | None) -> dict[str, ProductRow]:
        """Write the changes; return the current row of every product among them."""
        # Sorted, so that two processes lock the rows of a batch in the same order.
        ordered = sorted(changes, key=lambda change: (change.product.id, change.product.version))
        ids = {change.product.id for change in changes}
        check_after = datetime.now(UTC) + self._repair_horizon
        with self._database.writing() as connection:
            values = [_values(change, model_id, check_after) for change in ordered]
            connection.execute(self._upsert, values)
            self._append_history(connection, [change.product for change in ordered])
            _mark_outdated(connection, ids, check_after)
            return select_rows(connection, ids)

    def _append_history(self, connection: Connection, seen: Sequence[Product]) -> None:
        prices = [
            {
                "product_id": product.id,
                "observed_at": product.observed_at,
                "price_minor": product.price_minor,
                "currency": product.currency,
            }
            for product in seen
            if product.price_minor is not None and not product.deleted
        ]
        reviews = [
            {
                "product_id": product.id,
                "observed_at": product.observed_at,
                "rating": product.rating,
                "reviews_count": product.reviews_count,
            }
            for product in seen
            if product.rating is not None
            and product.reviews_count is not None
            and not product.deleted
        ]
        for table, rows in ((price_history, prices), (review_history, reviews)):
            if rows:
                connection.execute(self._append[table], rows)


def _mark_outdated(connection: Connection, ids: set[str], check_after: datetime) -> None:
    """Mark products whose messages were all outdated too: such a delivery may be the retry of a
    write that was cut off. The others have their mark already and are not written twice.
    """
    connection.execute(_MARK_OUTDATED, {"ids": list(ids), "mark": check_after})


def _values(change: Change, model_id: str | None, check_after: datetime) -> dict[str, Any]:
    product, embeddings, picture = change.product, change.embeddings, change.picture
    values: dict[str, Any] = {name: getattr(product, name) for name in _PAYLOAD}
    values |= {
        "id": product.id,
        "last_update": product.observed_at,
        "deleted": product.deleted,
        "version_rank": product.version.rank,
        "version_value": product.version.value,
        "payload_hash": product.version.payload_hash,
        "text_embedding": None if embeddings is None else pack(embeddings.text),
        "image_embedding": None if embeddings is None else pack(embeddings.image),
        "model_id": None if embeddings is None else model_id,
        "image_sha256": picture.sha256 if picture else None,
        "image_etag": picture.etag if picture else None,
        "image_last_modified": picture.last_modified if picture else None,
        "revision": 1,
        "check_after": check_after,
    }
    return values


def _upsert_statement(database: Database) -> Any:
    """Insert, or replace an older version; a tombstone keeps the payload it hides."""
    statement = database.insert(products)
    new = statement.excluded
    changes: dict[str, ColumnElement[Any]] = {
        name: case((new.deleted, products.c[name]), else_=new[name])
        for name in (*_PAYLOAD, *_PICTURE)
    }
    changes |= {name: new[name] for name in _DECIDED}
    changes |= {name: func.coalesce(new[name], products.c[name]) for name in _VECTORS}
    changes["revision"] = products.c.revision + 1
    changes["check_after"] = new.check_after
    order = ("version_rank", "version_value", "payload_hash")
    is_newer = tuple_(*(products.c[name] for name in order)) < tuple_(
        *(new[name] for name in order)
    )
    return statement.on_conflict_do_update(
        index_elements=[products.c.id], set_=changes, where=is_newer
    )
