"""A queue in memory, for tests: the rules of SQS without a server."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Condition
from uuid import uuid4

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queues.base import Backlog
from product_consumer.queues.rejections import rejection_attributes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected message's copy."""

    body: str | bytes
    attributes: Mapping[str, str]


@dataclass(slots=True)
class _Entry:
    message_id: str
    body: str | bytes
    sent_at: datetime
    attributes: Mapping[str, str]
    visible_at: float
    receive_count: int = 0
    receipt_handle: str = field(default="")


class InMemoryQueue:
    """A ``MessageQueue`` for tests; its messages end with the process. Thread-safe.

    It is stricter than SQS: only the newest receipt of a message settles it, and a receipt whose
    visibility timeout ran out changes nothing. ``clock`` returns monotonic seconds and decides
    when messages are visible; a long poll lasts real seconds. While ``available`` is False, every
    call raises ``QueueUnavailable``.
    """

    label = "memory"
    counts_lag_seconds = 0.0
    max_hold_seconds = 3600.0

    def __init__(
        self,
        visibility_timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.available = True
        self.dead_letters: list[DeadLetter] = []
        self.visibility_timeout_seconds = visibility_timeout_seconds
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._changed = Condition()

    def send(
        self,
        body: str | bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        sent_at: datetime | None = None,
        delay_seconds: float = 0.0,
    ) -> str:
        """Add a message and return its id."""
        message_id = str(uuid4())
        entry = _Entry(
            message_id=message_id,
            body=body,
            sent_at=sent_at or datetime.now(UTC),
            attributes=dict(attributes or {}),
            visible_at=self._clock() + delay_seconds,
        )
        with self._changed:
            self._entries[message_id] = entry
            self._changed.notify()
        return message_id

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        give_up_at = time.monotonic() + wait_seconds
        with self._changed:
            while True:
                self._check_available()
                remaining_seconds = give_up_at - time.monotonic()
                visible = self._visible()[:max_messages]
                if visible or remaining_seconds <= 0:
                    return [self._deliver(entry) for entry in visible]
                self._changed.wait(min(remaining_seconds, self._seconds_until_next()))

    def acknowledge(self, messages: Sequence[Message]) -> None:
        with self._changed:
            self._check_available()
            for message in messages:
                if self._current(message):
                    del self._entries[message.message_id]

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        self.extend([message], delay_seconds)

    def release(self, messages: Sequence[Message]) -> None:
        self.extend(messages, 0)

    def extend(self, messages: Sequence[Message], visibility_seconds: float) -> list[Message]:
        with self._changed:
            self._check_available()
            now = self._clock()
            lost = []
            for message in messages:
                entry = self._current(message)
                if entry is None or entry.visible_at <= now:
                    lost.append(message)
                else:
                    entry.visible_at = now + visibility_seconds
            self._changed.notify_all()
            return lost

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        with self._changed:
            self._check_available()
            attributes = rejection_attributes(message, rejected, source_queue=self.label)
            self.dead_letters.append(DeadLetter(message.body, attributes))

    def probe(self) -> None:
        with self._changed:
            self._check_available()

    def describe(self) -> str:
        return "in this process"

    def backlog(self) -> Backlog:
        with self._changed:
            self._check_available()
            visible = len(self._visible())
            hidden = [entry for entry in self._entries.values() if entry.visible_at > self._clock()]
            delayed = sum(1 for entry in hidden if entry.receive_count == 0)
            return Backlog(visible, len(hidden) - delayed, delayed)

    def close(self) -> None:
        """Nothing to close: tests read ``dead_letters`` and ``backlog()`` afterwards."""

    def _check_available(self) -> None:
        if not self.available:
            raise QueueUnavailable(self.label, "switched off")

    def _visible(self) -> list[_Entry]:
        now = self._clock()
        return [entry for entry in self._entries.values() if entry.visible_at <= now]

    def _seconds_until_next(self) -> float:
        now = self._clock()
        return min((entry.visible_at - now for entry in self._entries.values()), default=60.0)

    def _current(self, message: Message) -> _Entry | None:
        entry = self._entries.get(message.message_id)
        return entry if entry and entry.receipt_handle == message.receipt_handle else None

    def _deliver(self, entry: _Entry) -> Message:
        entry.receive_count += 1
        entry.receipt_handle = str(uuid4())
        entry.visible_at = self._clock() + self.visibility_timeout_seconds
        return Message(
            message_id=entry.message_id,
            receipt_handle=entry.receipt_handle,
            body=entry.body,
            receive_count=entry.receive_count,
            sent_at=entry.sent_at,
            attributes=entry.attributes,
        )
