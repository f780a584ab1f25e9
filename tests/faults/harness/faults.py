"""Faults inside a worker, and bugs planted into it, switched on by environment variables.

``HARNESS_BUG`` names one of ``BUGS``. ``HARNESS_FAULT`` is ``<kind>:<where>[:<argument>]``, e.g.
``crash:after_record``, ``crash:before_reject:2`` (at the second time), ``hold:milvus`` (the first
write waits until the harness releases it), ``raise:milvus``, ``die:receive`` and ``exit:receive``
(the thread ends by an exception, or by ``SystemExit``), ``hang:receive`` (it sleeps for ever),
``refuse:milvus`` (writes fail and reads succeed, while the harness says so),
``slow:during_embed:3`` (three seconds each time; a fourth field limits the times) and
``jump:receive:3600`` (of the wall clock, in seconds). Commas join several. ``steps.py`` names the
places and the switches. The worker's own code knows no fault.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy

from product_consumer.errors import ProductConsumerError, Unavailable
from product_consumer.ledger.ledger import BatchRecord
from product_consumer.ledger.rows import ProductChange
from product_consumer.models import Message, ProductRow
from product_consumer.outcomes import Outcome, Rejected, Stored
from product_consumer.pipeline.circuit_breaker import Breaker
from product_consumer.stores.probe import PROBE_ID
from tests.faults.harness import wall_clock
from tests.faults.harness.recording import History

HANGING_SECONDS = 600.0
BUGS = (
    "ack_before_write",
    "stale_ack",
    "no_verify",
    "no_pending_check",
    "no_dedup",
    "float_money",
    "reject_before_copy",
    "heartbeat_off_on_drain",
    "swallow_unknown",
    "read_closes_breaker",
)


class Fault:
    """The faults of this process, often none."""

    def __init__(self, text: str, history: History) -> None:
        self.history = history
        self._threads = threading.local()
        self._planted = [_Planted(fault, history) for fault in text.split(",") if fault]

    def at(self, where: str) -> None:
        """Strike if a fault is set for this place."""
        if getattr(self._threads, "is_ignored", False):
            return
        for planted in self._planted:
            planted.at(where)

    def refuse(self, where: str) -> None:
        """Strike only if the fault of this place is ``refuse``."""
        for planted in self._planted:
            if planted.kind == "refuse":
                planted.at(where)

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Strike at no place of the calling thread during the block."""
        self._threads.is_ignored = True
        try:
            yield
        finally:
            self._threads.is_ignored = False

    def switch(self, name: str) -> str | None:
        """Return the value of a switch, None when it is not set."""
        return next((planted.where for planted in self._planted if planted.kind == name), None)

    def add_receipts(self, messages: Sequence[Message]) -> None:
        """Record the receipts: with them a test ends the leases after a crash."""
        if self._planted and messages:
            self.history.add("receipts", handles=[message.receipt_handle for message in messages])


class _Planted:
    """One fault. Thread-safe."""

    def __init__(self, text: str, history: History) -> None:
        self.kind, self.where, self._argument, limit = (*text.split(":"), "", "", "")[:4]
        self._limit = int(limit or sys.maxsize)
        self._history = history
        self._times = 0
        self._lock = threading.Lock()

    def at(self, where: str) -> None:
        if where != self.where:
            return
        if self.kind == "refuse":
            self._refuse()
            return
        with self._lock:
            self._times += 1
            times = self._times
        self._strike(where, times)

    def _strike(self, where: str, times: int) -> None:
        match self.kind:
            case "crash" if times == int(self._argument or 1):
                self._history.add("crash", where=where)
                os.kill(os.getpid(), signal.SIGKILL)
            case "hold" if times == 1:
                self._history.wait_for_release()
            case "raise":
                raise RuntimeError("a bug planted by the harness")
            case "exit" if times == int(self._argument or 1):
                self._history.add("thread_exit", where=where)
                raise SystemExit(3)
            case "die" if times == int(self._argument or 1):
                self._history.add("thread_death", where=where)
                raise RuntimeError("a thread that the harness ends")
            case "hang" if times == int(self._argument or 1):
                self._history.add("thread_hang", where=where)
                time.sleep(HANGING_SECONDS)
            case "slow" if times <= self._limit:
                self._history.add("slow", where=where)
                time.sleep(float(self._argument))
            case "jump" if times == 1:
                self._history.add("jump", where=where)
                wall_clock.jump(float(self._argument))

    def _refuse(self) -> None:
        """Refuse this write while the harness says so; reads do not come here."""
        if self._history.is_refusing:
            self._history.add("write_failed", store=self.where)
            raise Unavailable(self.where, "refuses writes")


class FaultyQueue:
    """A queue with faults and bugs, around the recorded queue."""

    def __init__(self, inner: Any, fault: Fault, bug: str) -> None:
        self._inner = inner
        self._fault = fault
        self._bug = bug
        self._copied: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        self._fault.at("receive")
        messages: list[Message] = self._inner.receive(max_messages, wait_seconds)
        self._fault.add_receipts(messages)
        if messages:
            self._fault.at("after_receive")
        if self._bug == "ack_before_write" and messages:
            self._inner.acknowledge(messages)
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        rejected = [message for message in messages if message.receipt_handle in self._copied]
        self._fault.at("during_reject" if rejected else "before_acknowledge")
        self._inner.acknowledge(messages)
        self._fault.at("after_reject" if rejected else "after_acknowledge")

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        self._fault.at("before_reject")
        if self._bug == "reject_before_copy":
            self._inner.acknowledge([message])
            self._fault.at("during_reject")
        self._inner.copy_rejected(message, rejected)
        self._copied.add(message.receipt_handle)


class FaultyLedger:
    """A ledger with faults and bugs, around the recorded ledger.

    ``url``: of the database, in which one of the bugs writes past the ledger.
    """

    def __init__(self, inner: Any, fault: Fault, bug: str, url: str) -> None:
        self._inner = inner
        self._fault = fault
        self._bug = bug
        self._engine = sqlalchemy.create_engine(url) if bug == "no_pending_check" else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def probe(self) -> None:
        self._fault.at("ledger")
        with self._fault.ignored():
            self._inner.probe()

    def record(self, changes: Sequence[ProductChange]) -> BatchRecord:
        self._fault.at("ledger")
        self._fault.at("before_record")
        if self._bug == "no_dedup":
            changes = [_observed_now(change) for change in changes]
        stale = self._stale_ids(changes) if self._bug == "stale_ack" else set()
        recorded: BatchRecord = self._inner.record(changes)
        if self._engine is not None:
            self._clear_checks(recorded.rows)
        self._fault.at("after_record")
        if stale:
            kept = {key: row for key, row in recorded.rows.items() if key not in stale}
            return dataclasses.replace(recorded, rows=kept)
        return recorded

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]:
        self._fault.at("before_verify")
        if self._bug == "no_verify":
            return {}
        revisions: dict[str, int] = self._inner.revisions(product_ids)
        self._fault.at("after_verify")
        return revisions

    def _stale_ids(self, changes: Sequence[ProductChange]) -> set[str]:
        products = [change.product for change in changes]
        known = zip(products, self._inner.look_up(products), strict=True)
        fresh = {product.id for product, held in known if not held.is_outdated}
        return {product.id for product in products} - fresh

    def _clear_checks(self, product_ids: Iterable[str]) -> None:
        statement = sqlalchemy.text("UPDATE products SET check_after = NULL WHERE id = :id")
        if self._engine is not None:
            with self._engine.begin() as connection:
                connection.execute(statement, [{"id": product_id} for product_id in product_ids])


class FaultyStore:
    """A store with faults, around a recorded store."""

    def __init__(self, inner: Any, fault: Fault) -> None:
        self._inner = inner
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        if [row.id for row in rows] == [PROBE_ID]:
            return self._probe(rows)
        self._fault.at(self._inner.name)
        self._fault.at(f"before_{self._inner.name}")
        failures: Mapping[str, ProductConsumerError] = self._inner.write(rows)
        self._fault.at(f"after_{self._inner.name}")
        return failures

    def _probe(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """Write the test record: refused as any other, no place for the other faults."""
        self._fault.refuse(self._inner.name)
        failures: Mapping[str, ProductConsumerError] = self._inner.write(rows)
        return failures


def swallowing(outcome_of: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """``swallow_unknown``: an unexpected error of our own counts as done."""

    def wrong_outcome_of(error: Exception, message: Message, stage: str, **limits: int) -> Outcome:
        if isinstance(error, RuntimeError):
            return Stored("swallowed")
        return outcome_of(error, message, stage, **limits)

    return wrong_outcome_of


def close_on_reads() -> None:
    """``read_closes_breaker``: a dependency that answers reads counts as back."""
    breaker: Any = Breaker
    breaker.wait_until_closed = lambda breaker: not breaker._stopping.is_set()


def _observed_now(change: ProductChange) -> ProductChange:
    """``no_dedup``: history keyed by the delivery instead of the event."""
    product = dataclasses.replace(change.product, observed_at=datetime.now(UTC))
    return dataclasses.replace(change, product=product)
