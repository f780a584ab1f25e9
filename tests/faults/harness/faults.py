"""Faults inside a worker, and bugs planted into it, switched on by what the harness passes along.

``HARNESS_BUG`` names one of ``BUGS``. ``HARNESS_FAULT`` is ``<what>:<where>[:<argument>]``, e.g.
``crash:after_record``, ``crash:before_reject:2`` (at the second time), ``hold:milvus`` (the first
write waits until the harness lets go), ``raise:milvus``, ``die:receive`` and ``exit:receive`` (the
thread ends by an exception, or by ``SystemExit``), ``hang:receive`` (it sleeps for ever),
``slow:amid_embed:3`` (three seconds each time; a fourth part limits
the times), ``jump:receive:3600`` (of the wall clock). Several
are joined by commas; the places, and the switches, are named in ``steps.py``. The worker itself
knows nothing of it.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy

from product_consumer.errors import ProductConsumerError
from product_consumer.ledger.ledger import BatchRecord
from product_consumer.ledger.rows import ProductChange
from product_consumer.models import Message, ProductRow
from product_consumer.outcomes import Outcome, Rejected, Stored
from tests.faults.harness import wall_clock
from tests.faults.harness.recording import History

HANGING_SECONDS = 600.0
BUGS = (
    "ack_before_write",
    "stale_ack",
    "no_verify",
    "no_mark",
    "no_dedup",
    "float_money",
    "reject_before_copy",
    "heartbeat_off_on_drain",
    "swallow_unknown",
)


class Fault:
    """The faults of this process, most often none."""

    def __init__(self, text: str, history: History) -> None:
        self.history = history
        self._planted = [_Planted(part, history) for part in text.split(",") if part]

    def at(self, where: str) -> None:
        """Do what is asked for here; most often nothing."""
        for planted in self._planted:
            planted.at(where)

    def switch(self, name: str) -> str | None:
        """Return the value of a switch, None when it is not set."""
        return next((each.where for each in self._planted if each.what == name), None)

    def note_received(self, messages: Sequence[Message]) -> None:
        """Write down what it takes to show the messages again after a crash."""
        if self._planted and messages:
            self.history.note("receipts", handles=[each.receipt_handle for each in messages])


class _Planted:
    """One of them."""

    def __init__(self, text: str, history: History) -> None:
        self.what, self.where, self._argument, limit = (*text.split(":"), "", "", "")[:4]
        self._limit = int(limit or sys.maxsize)
        self._history = history
        self._times = 0
        self._lock = threading.Lock()

    def at(self, where: str) -> None:
        if where != self.where:
            return
        with self._lock:
            self._times += 1
            times = self._times
        match self.what:
            case "crash" if times == int(self._argument or 1):
                self._history.note("crash", where=where)
                os.kill(os.getpid(), signal.SIGKILL)
            case "hold" if times == 1:
                self._history.wait_for_release()
            case "raise":
                raise RuntimeError("a bug that the harness made up")
            case "exit" if times == int(self._argument or 1):
                self._history.note("thread_exit", where=where)
                raise SystemExit(3)
            case "die" if times == int(self._argument or 1):
                self._history.note("thread_death", where=where)
                raise RuntimeError("a thread that the harness ends")
            case "hang" if times == int(self._argument or 1):
                self._history.note("thread_hang", where=where)
                time.sleep(HANGING_SECONDS)
            case "slow" if times <= self._limit:
                self._history.note("slow", where=where)
                time.sleep(float(self._argument))
            case "jump" if times == 1:
                self._history.note("jump", where=where)
                wall_clock.jump(float(self._argument))


class FaultyQueue:
    """Sits above the recorded queue."""

    def __init__(self, inner: Any, fault: Fault, bug: str) -> None:
        self._inner = inner
        self._fault = fault
        self._bug = bug

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        self._fault.at("receive")
        messages: list[Message] = self._inner.receive(max_messages, wait_seconds)
        self._fault.note_received(messages)
        if messages:
            self._fault.at("after_receive")
        if self._bug == "ack_before_write" and messages:
            self._inner.acknowledge(messages)
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        self._fault.at("before_acknowledge")
        self._inner.acknowledge(messages)
        self._fault.at("after_acknowledge")

    def reject(self, message: Message, rejected: Rejected) -> None:
        self._fault.at("before_reject")
        if self._bug == "reject_before_copy":
            self._inner.acknowledge([message])
            self._fault.at("amid_reject")
        self._inner.reject(message, rejected)
        self._fault.at("after_reject")


class FaultyLedger:
    """Sits above the recorded ledger; ``url`` is for what only a bug would do to the tables."""

    def __init__(self, inner: Any, fault: Fault, bug: str, url: str) -> None:
        self._inner = inner
        self._fault = fault
        self._bug = bug
        self._engine = sqlalchemy.create_engine(url) if bug == "no_mark" else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def record(self, changes: Sequence[ProductChange]) -> BatchRecord:
        self._fault.at("before_record")
        if self._bug == "no_dedup":
            changes = [_observed_now(change) for change in changes]
        stale = self._stale_ids(changes) if self._bug == "stale_ack" else set()
        recorded: BatchRecord = self._inner.record(changes)
        if self._engine is not None:
            self._unmark(recorded.rows)
        self._fault.at("after_record")
        if stale:
            kept = {key: row for key, row in recorded.rows.items() if key not in stale}
            return dataclasses.replace(recorded, rows=kept)
        return recorded

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]:
        self._fault.at("before_verify")
        if self._bug == "no_verify":
            return {}
        found: dict[str, int] = self._inner.revisions(product_ids)
        self._fault.at("after_verify")
        return found

    def _stale_ids(self, changes: Sequence[ProductChange]) -> set[str]:
        products = [change.product for change in changes]
        known = zip(products, self._inner.look_up(products), strict=True)
        fresh = {each.id for each, found in known if not found.is_outdated}
        return {each.id for each in products} - fresh

    def _unmark(self, product_ids: Iterable[str]) -> None:
        statement = sqlalchemy.text("UPDATE products SET check_after = NULL WHERE id = :id")
        if self._engine is not None:
            with self._engine.begin() as connection:
                connection.execute(statement, [{"id": each} for each in product_ids])


class FaultyStore:
    """Sits above a recorded store."""

    def __init__(self, inner: Any, fault: Fault) -> None:
        self._inner = inner
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        self._fault.at(self._inner.name)
        self._fault.at(f"before_{self._inner.name}")
        failures: Mapping[str, ProductConsumerError] = self._inner.write(rows)
        self._fault.at(f"after_{self._inner.name}")
        return failures


def swallowing(outcome_of: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """``swallow_unknown``: what a bug of ours threw counts as done."""

    def wrong_outcome_of(error: Exception, message: Message, stage: str, **limits: int) -> Outcome:
        if isinstance(error, RuntimeError):
            return Stored("swallowed")
        return outcome_of(error, message, stage, **limits)

    return wrong_outcome_of


def _observed_now(change: ProductChange) -> ProductChange:
    """``no_dedup``: history keyed by the delivery instead of the event."""
    product = dataclasses.replace(change.product, observed_at=datetime.now(UTC))
    return dataclasses.replace(change, product=product)
