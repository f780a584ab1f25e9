"""The order ledger: SQL tables that count every order once, whatever the queue delivers.

``record`` is one transaction per batch. It inserts orders unless their id is known, and adds only
the inserted rows to the totals, as integers. So a second delivery adds nothing. Nor does a crash:
an order and its effect on every total are committed together or not at all.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Table, select

from product_consumer.database.connection import Database, open_database
from product_consumer.errors import ProductConsumerError, RejectMessage
from product_consumer.orders.models import Order, OrderItem, RejectedOrder
from product_consumer.orders.statistics import OrderStatistics
from product_consumer.orders.tables import (
    daily_totals,
    metadata,
    order_totals,
    orders,
    rejected_orders,
    user_daily_totals,
    user_totals,
)
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

MAX_TOTAL_MINOR = 2**62
"""Largest total: SQLite silently turns a sum beyond 2^63 into a float."""


@dataclass(frozen=True, slots=True)
class OrderBatchRecord:
    """The result of recording one batch of orders."""

    inserted: frozenset[str]
    """Ids of the orders that this batch counted; the others were known before."""
    failures: Mapping[int, ProductConsumerError] = field(default_factory=dict)
    """Errors of the orders that were refused, by position in the batch."""


def open_order_ledger(settings: Settings) -> "OrderLedger":
    """Return the order ledger that the settings name; connects to nothing yet."""
    return OrderLedger(open_database(settings))


class OrderLedger(OrderStatistics):
    """The writing half of the order ledger; ``OrderStatistics`` is the reading half. Thread-safe.

    Every method but ``close`` may raise ``LedgerUnavailable`` or ``ConfigurationError``.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def setup(self) -> None:
        """Create the tables that are missing; safe when several processes start together."""
        with self.database.setting_up() as connection:
            metadata.create_all(connection)

    def record(self, batch: Sequence[Order]) -> OrderBatchRecord:
        """Count the orders that are new, in one transaction.

        An order whose id is known with other content fails with ``order_conflict``, and the
        recorded order stays. An order that the database refuses for its own data fails alone.
        """
        if not batch:
            return OrderBatchRecord(frozenset())
        try:
            return self._record_together(batch)
        except RejectMessage as error:
            if len(batch) == 1:
                return OrderBatchRecord(frozenset(), {0: error})
        inserted: frozenset[str] = frozenset()
        failures: dict[int, ProductConsumerError] = {}
        for position, order in enumerate(batch):
            recorded = self.record([order])
            inserted |= recorded.inserted
            if recorded.failures:
                failures[position] = recorded.failures[0]
        return OrderBatchRecord(inserted, failures)

    def probe(self) -> None:
        """Raise while no order could be counted: count a test order and take it back."""
        with self.database.rehearsing() as connection:
            # The first inserts totals, the second adds to them.
            for order in _test_orders():
                self._count(connection, [order])

    def add_rejected(self, rejections: Iterable[RejectedOrder]) -> None:
        """Add rejections to the list of ``rejected()``; a known message id changes nothing."""
        rows = [
            {
                "message_id": rejection.message_id,
                "order_id": rejection.order_id,
                "reason": rejection.reason,
                "detail": rejection.detail,
                "at": rejection.at,
            }
            for rejection in sorted(rejections, key=lambda rejection: rejection.message_id)
        ]
        if not rows:
            return
        with self.database.writing() as connection:
            connection.execute(self.database.insert(rejected_orders).on_conflict_do_nothing(), rows)

    def describe(self) -> str:
        """Return one line for people: the database's address and the number of orders."""
        count = sum(total.total_orders for total in self.global_stats())
        return f"{self.database.address}, {count} orders"

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def _record_together(self, batch: Sequence[Order]) -> OrderBatchRecord:
        first: dict[str, Order] = {}
        for order in batch:
            first.setdefault(order.order_id, order)
        # Tables in a fixed order, and rows sorted by key: two processes with overlapping batches
        # wait for each other, never in a circle.
        candidates = [first[order_id] for order_id in sorted(first)]
        with self.database.writing() as connection:
            inserted = self._count(connection, candidates)
            stored = _stored_hashes(connection, first.keys() - inserted)
        stored |= {order_id: first[order_id].payload_hash for order_id in inserted}
        return OrderBatchRecord(
            inserted,
            {
                position: _conflict(order)
                for position, order in enumerate(batch)
                if stored[order.order_id] != order.payload_hash
            },
        )

    def _count(self, connection: Connection, candidates: Sequence[Order]) -> frozenset[str]:
        """Insert the orders that are new, add them to the totals, and return their ids."""
        inserted = self._insert_new(connection, candidates)
        new = [order for order in candidates if order.order_id in inserted]
        self._add_to_totals(connection, new)
        return inserted

    def _insert_new(self, connection: Connection, candidates: Sequence[Order]) -> frozenset[str]:
        now = datetime.now(UTC)
        statement = self.database.insert(orders).on_conflict_do_nothing()
        statement = statement.returning(orders.c.order_id)
        rows = connection.execute(statement, [_values(order, now) for order in candidates])
        return frozenset(rows.scalars())

    def _add_to_totals(self, connection: Connection, new: Sequence[Order]) -> None:
        for table, keys in (
            (user_totals, ("user_id", "currency")),
            (daily_totals, ("day", "currency")),
            (user_daily_totals, ("user_id", "day", "currency")),
            # Last, since every batch of every process waits for these rows.
            (order_totals, ("currency",)),
        ):
            sums: dict[tuple[Any, ...], tuple[int, int]] = {}
            for order in new:
                key = tuple(getattr(order, name) for name in keys)
                count, spend = sums.get(key, (0, 0))
                sums[key] = (count + 1, spend + order.value_minor)
            if sums:
                self._add(connection, table, keys, sums)

    def _add(
        self,
        connection: Connection,
        table: Table,
        keys: Sequence[str],
        sums: Mapping[tuple[Any, ...], tuple[int, int]],
    ) -> None:
        has_revision = "revision" in table.c
        rows = [
            dict(zip(keys, key, strict=True))
            | {"order_count": sums[key][0], "spend_minor": sums[key][1]}
            | ({"revision": 1} if has_revision else {})
            for key in sorted(sums)
        ]
        statement = self.database.insert(table)
        added = ("order_count", "spend_minor", *(("revision",) if has_revision else ()))
        statement = statement.on_conflict_do_update(
            index_elements=[table.c[name] for name in keys],
            set_={name: table.c[name] + statement.excluded[name] for name in added},
        ).returning(table.c.spend_minor)
        totals = connection.execute(statement, rows).scalars()
        if any(total > MAX_TOTAL_MINOR for total in totals):
            raise RejectMessage("amount_range", f"a total would exceed {MAX_TOTAL_MINOR}")


def _test_orders() -> list[Order]:
    """Return two orders of one user, with ids that no order and no user has.

    Their currency is the one that ISO keeps for tests. Each call has its own ids: two processes
    that rehearse must not wait for each other.
    """
    first = Order(
        order_id=f" {uuid4()}",
        user_id=f" {uuid4()}",
        ordered_at=datetime.now(UTC),
        value_minor=100,
        currency="XTS",
        items=(OrderItem("test", 1, 100),),
        payload_hash="",
    )
    return [first, replace(first, order_id=f" {uuid4()}")]


def _stored_hashes(connection: Connection, order_ids: Iterable[str]) -> dict[str, str]:
    ids = set(order_ids)
    if not ids:
        return {}
    columns = (orders.c.order_id, orders.c.payload_hash)
    rows = connection.execute(select(*columns).where(orders.c.order_id.in_(ids)))
    return {row.order_id: row.payload_hash for row in rows}


def _values(order: Order, now: datetime) -> dict[str, Any]:
    items = [[item.product_id, item.json_quantity, item.unit_minor] for item in order.items]
    return {
        "order_id": order.order_id,
        "payload_hash": order.payload_hash,
        "user_id": order.user_id,
        "ordered_at": order.ordered_at,
        "value_minor": order.value_minor,
        "currency": order.currency,
        "payment_method": order.payment_method,
        "items": json.dumps(items, ensure_ascii=False),
        "recorded_at": now,
    }


def _conflict(order: Order) -> RejectMessage:
    problem = "this order id was counted before, with other content"
    return RejectMessage("order_conflict", problem)
