"""Wrappers that write down what a worker does with its queue, its ledger and its stores.

One JSON line per event goes to a file that all processes append to. The beginning of a call is
written before it, its end after it, so a killed process can leave an end out but never claim one
that did not happen. Times are of the machine's monotonic clock, which all processes share.
"""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from product_consumer.database.connection import Database
from product_consumer.errors import LedgerUnavailable, ProductConsumerError
from product_consumer.ledger.ledger import BatchRecord
from product_consumer.ledger.rows import ProductChange
from product_consumer.models import Message, ProductRow
from product_consumer.outcomes import Rejected

HELD_SECONDS = 60.0

_calls = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history: when, in which process, what, and the rest by name."""

    at: float
    process: int
    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


class History:
    """Appends events to a file; any number of processes may have it open."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._release = path.with_suffix(".release")

    def note(self, kind: str, **fields: Any) -> None:
        line = {"at": time.monotonic(), "process": os.getpid(), "kind": kind} | fields
        # The line before may have been cut off by a kill.
        os.write(self._file, f"\n{json.dumps(line)}\n".encode())

    def release(self) -> None:
        """Let every process go on that waits for it."""
        self._release.touch()

    def wait_for_release(self) -> None:
        """Wait for ``release`` of another process, at most ``HELD_SECONDS``."""
        deadline = time.monotonic() + HELD_SECONDS
        while not self._release.exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def around(self, kind: str, action: Callable[[], Any], **fields: Any) -> Any:
        """Note ``<kind>``, run, note ``<kind>_done`` or ``<kind>_failed``."""
        call = next(_calls)
        self.note(kind, call=call, **fields)
        try:
            result = action()
        except Exception as error:
            self.note(f"{kind}_failed", call=call, error=type(error).__name__, **fields)
            raise
        self.note(f"{kind}_done", call=call, **fields)
        return result


def read_history(path: Path) -> list[Event]:
    """Return the events in order of time, without a line that a kill cut off or that is just
    being written.
    """
    events = []
    for line in path.read_text().split("\n"):
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:
            continue
        events.append(Event(fields.pop("at"), fields.pop("process"), fields.pop("kind"), fields))
    return sorted(events, key=lambda event: event.at)


class _Wrapper:
    """Whatever is not written down goes straight to the part itself."""

    def __init__(self, inner: Any, history: History) -> None:
        self._inner = inner
        self._history = history

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class RecordedQueue(_Wrapper):
    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        self._history.note("poll", thread=threading.get_ident())
        messages: list[Message] = self._inner.receive(max_messages, wait_seconds)
        if messages:
            counts = {message.message_id: message.receive_count for message in messages}
            self._history.note("receive", messages=counts, thread=threading.get_ident())
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        self._settle("acknowledge", messages, lambda: self._inner.acknowledge(messages))

    def release(self, messages: Sequence[Message]) -> None:
        self._settle("release", messages, lambda: self._inner.release(messages))

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        self._settle("retry", [message], lambda: self._inner.retry_later(message, delay_seconds))

    def reject(self, message: Message, rejected: Rejected) -> None:
        self._settle("reject", [message], lambda: self._inner.reject(message, rejected))

    def _settle(self, kind: str, messages: Sequence[Message], action: Callable[[], None]) -> None:
        ids = [message.message_id for message in messages]
        self._history.around(kind, action, messages=ids, thread=threading.get_ident())


class RecordedLedger(_Wrapper):
    def record(self, changes: Sequence[ProductChange]) -> BatchRecord:
        products = [[change.product.id, change.product.version.value] for change in changes]
        call = next(_calls)
        self._history.note("record", call=call, products=products)
        recorded: BatchRecord = self._inner.record(changes)
        self._history.note(
            "record_done",
            call=call,
            products=products,
            refused=sorted(recorded.failures),
            revisions={key: row.revision for key, row in recorded.rows.items()},
        )
        return recorded


class RecordedStore(_Wrapper):
    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        revisions = {row.id: row.revision for row in rows}
        call = next(_calls)
        about = {"call": call, "store": self._inner.name, "revisions": revisions}
        self._history.note("write", **about)
        try:
            failures: Mapping[str, ProductConsumerError] = self._inner.write(rows)
        except Exception as error:
            self._history.note("write_failed", error=type(error).__name__, **about)
            raise
        self._history.note("write_done", refused=sorted(failures), **about)
        return failures


def record_outages(history: History) -> None:
    """Note ``ledger_failed`` for whatever a consumer asks of the database in vain. What others ask,
    the sweeper say, tells consumers nothing.
    """
    databases: Any = Database
    for name in ("reading", "writing"):
        setattr(databases, name, _noting_outages(getattr(databases, name), history))


def _noting_outages(connect: Callable[..., Any], history: History) -> Any:
    @contextmanager
    def connected(database: Database) -> Iterator[Any]:
        try:
            with connect(database) as connection:
                yield connection
        except LedgerUnavailable as error:
            if threading.current_thread().name.startswith("consumer-"):
                history.note("ledger_failed", error=str(error))
            raise

    return connected


def deliveries(events: Iterable[Event]) -> dict[str, int]:
    """The highest receive count that any process saw, by message id."""
    highest: dict[str, int] = {}
    for event in events:
        if event.kind == "receive":
            for message_id, count in event["messages"].items():
                highest[message_id] = max(count, highest.get(message_id, 0))
    return highest
