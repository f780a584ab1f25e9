"""The statements that record a batch: compare and set, history, pending checks, current rows.

On SQLite they are one transaction. On PostgreSQL the first statement writes newer messages with
their history and pending checks. Two more set the pending checks of the other products and read
their rows. A process that dies in between has acknowledged nothing: its messages are delivered
again and are outdated then, which does no harm.

The row is the same for any order of arrival. An older message still counts in two cases:

- its product is deleted: the row of a deleted product keeps the newest content known of it;
- its version and content are those of the row, and its time is later.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    Connection,
    Table,
    bindparam,
    select,
    update,
)

from product_consumer.database.bulk_insert import BulkInsert
from product_consumer.database.column_types import UtcTimestamp
from product_consumer.database.connection import Database
from product_consumer.ledger.rows import ProductChange, RowReader, as_product_row
from product_consumer.ledger.tables import price_history, products, review_history
from product_consumer.ledger.upserts import CONTENT, fill_in, keep_first, replace_older
from product_consumer.models import Embeddings, Product, ProductRow, Version
from product_consumer.vectors import pack, unpack

# Each history, and the values without which a message has no row in it.
_HISTORIES = {price_history: ("price_minor",), review_history: ("rating", "reviews_count")}


class Recording:
    """Writes batches of changes to one database. Thread-safe; raises as ``Database`` does."""

    def __init__(self, database: Database, repair_horizon: timedelta) -> None:
        self._database = database
        self._repair_horizon = repair_horizon
        histories = [(table, keep_first) for table in _HISTORIES]
        self._upsert = BulkInsert(database, products, replace_older, *histories)
        self._fill_in = BulkInsert(database, products, fill_in)
        new_check_after = bindparam("new_check_after", type_=UtcTimestamp())
        # Locked in the order of the upsert; another order could deadlock with it.
        without_it = (
            select(products.c.id)
            .where(database.among(products.c.id, "ids"))
            .where(products.c.check_after.is_distinct_from(new_check_after))
            .order_by(products.c.id)
            .with_for_update()
        )
        self._set_check = (
            update(products)
            .where(products.c.id.in_(without_it))
            .values(check_after=new_check_after)
        )
        self._rows = RowReader(database)

    def record(
        self, changes: Sequence[ProductChange], model_id: str | None
    ) -> dict[str, ProductRow]:
        """Write the changes; return the current row of every product among them."""
        with self._database.writing_in_steps() as connection:
            return self._record(connection, changes, model_id)

    def rehearse(self) -> None:
        """Record a test product and take it back; raises whatever recording would raise."""
        with self._database.rehearsing() as connection:
            self._record(connection, _test_changes(), None)

    def _record(
        self, connection: Connection, changes: Sequence[ProductChange], model_id: str | None
    ) -> dict[str, ProductRow]:
        # Sorted, so that two processes lock the rows of a batch in the same order.
        ordered = sorted(changes, key=lambda change: (change.product.id, change.product.version))
        ids = {change.product.id for change in changes}
        check_after = datetime.now(UTC) + self._repair_horizon
        accepted: dict[str, ProductRow | None] = {}
        for distinct in _rounds(ordered):
            accepted |= self._write(connection, distinct, model_id, check_after)
        rows = {product_id: row for product_id, row in accepted.items() if row is not None}
        others = ids - rows.keys()
        if others:
            self._set_checks(connection, others, check_after)
            rows |= self._rows(connection, others)
        filled_in = self._fill_in_late(connection, ordered, rows, check_after)
        return rows | self._rows(connection, filled_in) if filled_in else rows

    def _write(
        self,
        connection: Connection,
        changes: Sequence[ProductChange],
        model_id: str | None,
        check_after: datetime,
    ) -> dict[str, ProductRow | None]:
        """Write changes of distinct products; return the new row of each that was accepted.

        None stands for a row whose embeddings an earlier change wrote.
        """
        new = {
            change.product.id: change.embeddings
            for change in changes
            if change.embeddings is not None
        }
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
        # Rounded as later readers will see them. Where the stored embedding was kept instead, it
        # was computed from the same name or image, so the two agree.
        stored = map(Embeddings, unpack(texts), unpack(images))
        rounded = dict(zip(new, stored, strict=True))
        return {
            row.id: as_product_row(row, rounded[row.id]) if row.id in rounded else None
            for row in returned
        }

    def _fill_in_late(
        self,
        connection: Connection,
        ordered: Iterable[ProductChange],
        rows: Mapping[str, ProductRow],
        check_after: datetime,
    ) -> set[str]:
        """Write what older messages add to the current rows; return the ids of changed products."""
        late = [change for change in ordered if _may_add(change.product, rows[change.product.id])]
        changed: set[str] = set()
        for distinct in _rounds(late):
            values = [_values(change, None, None, check_after) for change in distinct]
            changed |= {row.id for row in self._fill_in(connection, values)}
        return changed

    def _set_checks(
        self, connection: Connection, ids: Iterable[str], check_after: datetime
    ) -> None:
        """Set the pending check of products whose messages were all outdated too.

        Such a message may be the retry of a write that was cut off. A product that has this pending
        check already is not written twice.
        """
        parameters = {"ids": self._database.texts(ids), "new_check_after": check_after}
        connection.execute(self._set_check, parameters)


def _test_changes() -> list[ProductChange]:
    """Return two changes, an insert and an update, of a product that has a value for every table.

    No product has its id. Each call has its own: two processes that rehearse must not wait for
    each other.
    """
    now = datetime.now(UTC)
    product = Product(
        id=f" {uuid4()}",
        version=Version(0, 0, ""),
        observed_at=now,
        name="test",
        image_url="https://example.com/",
        price_minor=100,
        currency="USD",
        rating=5.0,
        reviews_count=1,
    )
    newer = replace(product, version=Version(0, 1, ""), price_minor=200)
    return [ProductChange(product, embeddings=None), ProductChange(newer, embeddings=None)]


def _may_add(product: Product, row: ProductRow) -> bool:
    """Whether a message may add to the row although it is not newer; the database decides."""
    return (row.deleted and not product.deleted) or row.last_update < product.observed_at


def _rounds(ordered: Sequence[ProductChange]) -> list[list[ProductChange]]:
    """Split the changes into rounds of distinct products; a product's changes stay in order."""
    rounds: list[list[ProductChange]] = []
    seen: Counter[str] = Counter()
    for change in ordered:
        round_number = seen[change.product.id]
        if round_number == len(rounds):
            rounds.append([])
        rounds[round_number].append(change)
        seen[change.product.id] += 1
    return rounds


def _observed(table: Table, changes: Iterable[ProductChange]) -> list[dict[str, Any]]:
    """Return the messages' rows for one of the histories; a tombstone has none."""
    names = [column.name for column in table.columns if column.name != "product_id"]
    return [
        {"product_id": product.id} | {name: getattr(product, name) for name in names}
        for product in (change.product for change in changes)
        if not product.deleted
        and all(getattr(product, name) is not None for name in _HISTORIES[table])
    ]


def _values(
    change: ProductChange,
    packed: tuple[bytes, bytes] | None,
    model_id: str | None,
    check_after: datetime,
) -> dict[str, Any]:
    """Return the row of a change; ``packed``: its text and image embedding as float16 bytes."""
    product, image_source = change.product, change.image_source
    text, image = packed or (None, None)
    values: dict[str, Any] = {
        name: getattr(product, name) for name in CONTENT if name != "content_version"
    }
    values |= {
        "id": product.id,
        "flags": " ".join(product.flags) or None,
        "content_version": None if product.deleted else _sortable(product.version),
        "last_update": product.observed_at,
        "deleted": product.deleted,
        "version_rank": product.version.rank,
        "version_value": product.version.value,
        "payload_hash": product.version.payload_hash,
        "text_embedding": text,
        "image_embedding": image,
        "model_id": model_id if packed else None,
        "image_sha256": image_source.sha256 if image_source else None,
        "image_etag": image_source.etag if image_source else None,
        "image_last_modified": image_source.last_modified if image_source else None,
        "revision": 1,
        "check_after": check_after,
    }
    return values


def _sortable(version: Version) -> str:
    """Return a version as text whose byte order is the order of versions."""
    return f"{version.rank}:{version.value:019}:{version.payload_hash}"
