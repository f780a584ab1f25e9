"""Wrappers that record a worker's calls to its queue, its ledger and its stores.

One JSON line per event goes to a file that all processes append to. The start of a call is written
before it and the end after it. So a killed process may leave out an end, and never claims an end
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
    """One line of the history. ``at``: in seconds of the monotonic clock."""

    at: float
    process: int
    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


class History:
    """A file that events are appended to; any number of processes may have it open. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._release = path.with_suffix(".release")
        self._refusal = path.with_suffix(".refusal")

    def add(self, kind: str, **fields: Any) -> None:
        line = {"at": time.monotonic(), "process": os.getpid(), "kind": kind} | fields
        # The line before may have been cut off by a kill.
        os.write(self._file, f"\n{json.dumps(line)}\n".encode())

    def release(self) -> None:
        """Let every process continue that waits for it."""
        self._release.touch()

    def wait_for_release(self) -> None:
        """Wait for ``release`` of another process, at most ``HELD_SECONDS``."""
        deadline = time.monotonic() + HELD_SECONDS
        while not self._release.exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Let every dependency with a fault ``refuse`` refuse writes during the block."""
        self._refusal.touch()
        try:
            yield
        finally:
            self._refusal.unlink()

    @property
    def is_refusing(self) -> bool:
        return self._refusal.exists()

    def around(self, kind: str, action: Callable[[], Any], **fields: Any) -> Any:
        """Add ``<kind>``, run the action, add ``<kind>_done`` or ``<kind>_failed``."""
        call = next(_calls)
        self.add(kind, call=call, **fields)
        try:
            result = action()
        except Exception as error:
            self.add(f"{kind}_failed", call=call, error=type(error).__name__, **fields)
            raise
        self.add(f"{kind}_done", call=call, **fields)
        return result


def read_history(path: Path) -> list[Event]:
    """Return the events in order of time, without a line that is not complete: a kill cut it off,
    or it is being written.
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
    """A component around another; calls that are not recorded go to the inner component."""

    def __init__(self, inner: Any, history: History) -> None:
        self._inner = inner
        self._history = history

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class RecordedQueue(_Wrapper):
    """A queue; deleting a message whose copy was sent is a ``reject``, not an ``acknowledge``."""

    def __init__(self, inner: Any, history: History) -> None:
        super().__init__(inner, history)
        self._copied: set[str] = set()

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        self._history.add("poll", thread=threading.get_ident())
        messages: list[Message] = self._inner.receive(max_messages, wait_seconds)
        if messages:
            counts = {message.message_id: message.receive_count for message in messages}
            self._history.add("receive", messages=counts, thread=threading.get_ident())
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        is_rejected = any(message.receipt_handle in self._copied for message in messages)
        kind = "reject" if is_rejected else "acknowledge"
        self._settle(kind, messages, lambda: self._inner.acknowledge(messages))

    def release(self, messages: Sequence[Message]) -> None:
        self._settle("release", messages, lambda: self._inner.release(messages))

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        self._settle("retry", [message], lambda: self._inner.retry_later(message, delay_seconds))

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        self._settle("copy", [message], lambda: self._inner.copy_rejected(message, rejected))
        self._copied.add(message.receipt_handle)

    def _settle(self, kind: str, messages: Sequence[Message], action: Callable[[], None]) -> None:
        ids = [message.message_id for message in messages]
        self._history.around(kind, action, messages=ids, thread=threading.get_ident())


class RecordedLedger(_Wrapper):
    def record(self, changes: Sequence[ProductChange]) -> BatchRecord:
        products = [[change.product.id, change.product.version.value] for change in changes]
        call = next(_calls)
        self._history.add("record", call=call, products=products)
        recorded: BatchRecord = self._inner.record(changes)
        self._history.add(
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
        self._history.add("write", **about)
        try:
            failures: Mapping[str, ProductConsumerError] = self._inner.write(rows)
        except Exception as error:
            self._history.add("write_failed", error=type(error).__name__, **about)
            raise
        self._history.add("write_done", refused=sorted(failures), **about)
        return failures


def record_outages(history: History) -> None:
    """Add ``ledger_failed`` whenever a consumer thread cannot use the database.

    Failures in other threads, such as the sweeper, tell the consumers nothing.
    """
    databases: Any = Database
    for name in ("reading", "writing"):
        setattr(databases, name, _recording_outages(getattr(databases, name), history))


def _recording_outages(connect: Callable[..., Any], history: History) -> Any:
    @contextmanager
    def connected(database: Database) -> Iterator[Any]:
        try:
            with connect(database) as connection:
                yield connection
        except LedgerUnavailable as error:
            if threading.current_thread().name.startswith("consumer-"):
                history.add("ledger_failed", error=str(error))
            raise

    return connected


def deliveries(events: Iterable[Event]) -> dict[str, int]:
    """The highest receive count of each message, by message id."""
    highest: dict[str, int] = {}
    for event in events:
        if event.kind == "receive":
            for message_id, count in event["messages"].items():
                highest[message_id] = max(count, highest.get(message_id, 0))
    return highest
