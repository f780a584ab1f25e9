"""What writes products: compare and set, history, mark, and what is current.

On SQLite that is one transaction. On PostgreSQL what a newer message changes is one statement, with
its history and mark; then outdated ones are marked, and read. A process that dies in between has
acknowledged nothing, and its messages find everything as if they came late.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    tuple_,
    update,
)

from product_consumer.database.bulk_insert import BulkInsert
from product_consumer.database.column_types import UtcTimestamp
from product_consumer.database.connection import Database
from product_consumer.ledger.rows import PLAIN_COLUMNS, ProductChange, RowReader, as_product_row
from product_consumer.ledger.tables import price_history, products, review_history
from product_consumer.models import Embeddings, ProductRow
from product_consumer.vectors import pack, unpack

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
# Vectors, and what each is computed of.
_VECTORS = {"text_embedding": "name", "image_embedding": "image_sha256"}
# What a message must know to have a row there.
_HISTORIES = {price_history: ("price_minor",), review_history: ("rating", "reviews_count")}


class Recording:
    """Writes changes to one database; thread-safe."""

    def __init__(self, database: Database, repair_horizon: timedelta) -> None:
        self._database = database
        self._repair_horizon = repair_horizon
        histories = [(table, _keep_first) for table in _HISTORIES]
        self._upsert = BulkInsert(database, products, _replace_older, *histories)
        mark = bindparam("mark", type_=UtcTimestamp())
        # Locked in the order of the upsert: two that waited for each other would deadlock.
        unmarked = (
            select(products.c.id)
            .where(database.among(products.c.id, "ids"))
            .where(products.c.check_after.is_distinct_from(mark))
            .order_by(products.c.id)
            .with_for_update()
        )
        self._mark = update(products).where(products.c.id.in_(unmarked)).values(check_after=mark)
        self._rows = RowReader(database)

    def record(
        self, changes: Sequence[ProductChange], model_id: str | None
    ) -> dict[str, ProductRow]:
        """Write the changes; return the current row of every product among them."""
        # Sorted, so that two processes lock the rows of a batch in the same order.
        ordered = sorted(changes, key=lambda change: (change.product.id, change.product.version))
        ids = {change.product.id for change in changes}
        check_after = datetime.now(UTC) + self._repair_horizon
        with self._database.writing_in_steps() as connection:
            accepted: dict[str, ProductRow | None] = {}
            for distinct in _rounds(ordered):
                accepted |= self._write(connection, distinct, model_id, check_after)
            rows = {product_id: row for product_id, row in accepted.items() if row is not None}
            others = ids - rows.keys()
            if others:
                self._mark_outdated(connection, others, check_after)
                rows |= self._rows(connection, others)
            return rows

    def _write(
        self,
        connection: Connection,
        changes: Sequence[ProductChange],
        model_id: str | None,
        check_after: datetime,
    ) -> dict[str, ProductRow | None]:
        """Return the new row of each product whose change was accepted; None where its vectors are
        those of an earlier change.
        """
        new = {each.product.id: each.embeddings for each in changes if each.embeddings is not None}
        texts = pack([embeddings.text for embeddings in new.values()])
        images = pack([embeddings.image for embeddings in new.values()])
        packed = dict(zip(new, zip(texts, images, strict=True), strict=True))
        returned = self._upsert(
            connection,
            [
                _values(change, packed.get(change.product.id), model_id, check_after)
                for change in changes
            ],
            *(_observed(table, changes) for table in _HISTORIES),
        )
        # As every later reader will see them, or as good: what is kept is of the same source.
        stored = map(Embeddings, unpack(texts), unpack(images))
        rounded = dict(zip(new, stored, strict=True))
        return {
            row.id: as_product_row(row, rounded[row.id]) if row.id in rounded else None
            for row in returned
        }

    def _mark_outdated(
        self, connection: Connection, ids: Iterable[str], check_after: datetime
    ) -> None:
        """Mark products whose messages were all outdated too: such a delivery may be the retry of a
        write that was cut off. What has its mark already is not written twice.
        """
        parameters = {"ids": self._database.texts(ids), "mark": check_after}
        connection.execute(self._mark, parameters)


def _rounds(ordered: Sequence[ProductChange]) -> list[list[ProductChange]]:
    """Part the changes so that no product is in a round twice; those of one keep their order."""
    rounds: list[list[ProductChange]] = []
    seen: Counter[str] = Counter()
    for change in ordered:
        number = seen[change.product.id]
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(change)
        seen[change.product.id] += 1
    return rounds


def _observed(table: Table, changes: Iterable[ProductChange]) -> list[dict[str, Any]]:
    """What the messages say for one of the histories; a tombstone says nothing."""
    names = [column.name for column in table.columns if column.name != "product_id"]
    return [
        {"product_id": product.id} | {name: getattr(product, name) for name in names}
        for product in (change.product for change in changes)
        if not product.deleted
        and all(getattr(product, name) is not None for name in _HISTORIES[table])
    ]


def _values(
    change: ProductChange,
    vectors: tuple[bytes, bytes] | None,
    model_id: str | None,
    check_after: datetime,
) -> dict[str, Any]:
    product, image_source = change.product, change.image_source
    text, image = vectors or (None, None)
    values: dict[str, Any] = {name: getattr(product, name) for name in _PAYLOAD}
    values |= {
        "id": product.id,
        "last_update": product.observed_at,
        "deleted": product.deleted,
        "version_rank": product.version.rank,
        "version_value": product.version.value,
        "payload_hash": product.version.payload_hash,
        "text_embedding": text,
        "image_embedding": image,
        "model_id": model_id if vectors else None,
        "image_sha256": image_source.sha256 if image_source else None,
        "image_etag": image_source.etag if image_source else None,
        "image_last_modified": image_source.last_modified if image_source else None,
        "revision": 1,
        "check_after": check_after,
    }
    return values


def _keep_first(insert: Any) -> Any:
    return insert.on_conflict_do_nothing()


def _replace_older(insert: Any) -> Any:
    """Have an insert replace an older version, and return what it wrote; a tombstone keeps the
    payload it hides.
    """
    new = insert.excluded
    changes: dict[str, ColumnElement[Any]] = {
        name: case((new.deleted, products.c[name]), else_=new[name])
        for name in (*_PAYLOAD, *_PICTURE)
    }
    changes |= {name: new[name] for name in _DECIDED}
    changes |= {name: _unless_equal(new, name, source) for name, source in _VECTORS.items()}
    changes["model_id"] = func.coalesce(new.model_id, products.c.model_id)
    changes["revision"] = products.c.revision + 1
    changes["check_after"] = new.check_after
    order = ("version_rank", "version_value", "payload_hash")
    is_newer = tuple_(*(products.c[name] for name in order)) < tuple_(
        *(new[name] for name in order)
    )
    upsert = insert.on_conflict_do_update(
        index_elements=[products.c.id], set_=changes, where=is_newer
    )
    return upsert.returning(*PLAIN_COLUMNS)


def _unless_equal(new: Any, vector: str, source: str) -> ColumnElement[Any]:
    """The new vector, or the stored one where there is no new one or both are of the same source
    and model: written again, it would be most of what PostgreSQL writes for a price that changes
    alone.
    """
    old = products.c
    is_equal = and_(old[source] == new[source], old.model_id == new.model_id)
    return case((or_(new[vector].is_(None), is_equal), old[vector]), else_=new[vector])
