"""Wrappers that record how a worker handles orders, with faults and bugs inside.

The events have the names of the product stream's, behind ``order_``. ``HARNESS_FAULT`` may name
``before_order_record``, ``after_order_record``, ``before_redis``, ``after_redis``, and the places
of ``FaultyQueue``, which the two streams share.
"""

import dataclasses
import itertools
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from product_consumer.orders import components
from product_consumer.orders.ledger import OrderBatchRecord, OrderLedger
from product_consumer.orders.models import Order
from product_consumer.orders.redis.stats import StatsHash
from product_consumer.queue_addresses import StreamName
from product_consumer.settings import Settings
from tests.faults.harness.faults import Fault, FaultyQueue
from tests.faults.harness.order_checker import PREFIX
from tests.faults.harness.recording import History, RecordedQueue

_calls = itertools.count(1)


class OrderHistory(History):
    """Appends to the file of all histories, with a prefix before each kind."""

    def add(self, kind: str, **fields: Any) -> None:
        super().add(f"{PREFIX}{kind}", **fields)


def wrap_order_components(path: Path, fault: Fault, bug: str) -> None:
    """Put the wrappers between the order stream and its queue, its ledger and Redis."""
    history = OrderHistory(path)
    open_queue, open_stats = components.open_queue, components.open_redis_stats  # type: ignore[attr-defined]

    def queue(settings: Settings, stream: StreamName) -> Any:
        return FaultyQueue(RecordedQueue(open_queue(settings, stream), history), fault, bug)

    def ledger(database: Any) -> Any:
        inner = FloatMoneyLedger(database) if bug == "float_money" else OrderLedger(database)
        return FaultyOrderLedger(inner, history, fault, bug)

    def stats(settings: Settings) -> Any:
        inner = open_stats(settings)
        return None if inner is None else FaultyStats(inner, history, fault)

    vars(components).update(open_queue=queue, OrderLedger=ledger, open_redis_stats=stats)


class FloatMoneyLedger(OrderLedger):
    """``float_money``: totals are added up as floats of whole units, 0.29 becomes 28 cents."""

    def _add_to_totals(self, connection: Connection, counted: Sequence[Order]) -> None:
        rounded = [
            dataclasses.replace(order, value_minor=int(order.value_minor / 100 * 100))
            for order in counted
        ]
        super()._add_to_totals(connection, rounded)


class FaultyOrderLedger:
    """An order ledger with faults, recorded. ``no_dedup``: an order counts once per delivery."""

    def __init__(self, inner: OrderLedger, history: History, fault: Fault, bug: str) -> None:
        self._inner = inner
        self._history = history
        self._fault = fault
        self._bug = bug

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def probe(self) -> None:
        self._fault.at("order_ledger")
        self._inner.probe()

    def record(self, batch: Sequence[Order]) -> OrderBatchRecord:
        self._fault.at("order_ledger")
        self._fault.at("before_order_record")
        call = next(_calls)
        ids = [order.order_id for order in batch]
        if self._bug == "no_dedup":
            batch = [_with_another_id(order) for order in batch]
        self._history.add("record", call=call, orders=ids)
        recorded = self._inner.record(batch)
        counted = [key for position, key in enumerate(ids) if position not in recorded.failures]
        self._history.add("record_done", call=call, orders=counted)
        self._fault.at("after_order_record")
        return recorded


class FaultyStats:
    """Redis with faults; records each write as ``write`` of the store ``redis``."""

    def __init__(self, inner: Any, history: History, fault: Fault) -> None:
        self._inner = inner
        self._history = history
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def is_filled(self) -> bool:
        try:
            is_filled: bool = self._inner.is_filled()
        except Exception as error:
            self._history.add("write_failed", store="redis", error=type(error).__name__)
            raise
        return is_filled

    def write(self, hashes: Sequence[StatsHash], *, force: bool = False) -> int:
        self._fault.at("before_redis")
        self._fault.at("redis")
        revisions = {stats.key: stats.revision for stats in hashes}
        about = {"call": next(_calls), "store": "redis", "revisions": revisions}
        self._history.add("write", **about)
        try:
            written: int = self._inner.write(hashes, force=force)
        except Exception as error:
            self._history.add("write_failed", error=type(error).__name__, **about)
            raise
        self._history.add("write_done", **about)
        self._fault.at("after_redis")
        return written


def _with_another_id(order: Order) -> Order:
    return dataclasses.replace(order, order_id=f"{order.order_id}/{uuid.uuid4().hex}")
