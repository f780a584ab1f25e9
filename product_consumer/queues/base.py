"""The contract of every queue: what the consumer loop and the producers call."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from product_consumer.models import NO_ENVELOPE, Envelope, Message
from product_consumer.outcomes import Rejected

MAX_RECEIVED = 10
"""Most messages that one receive may ask for."""
NOT_TEXT = "NotText"
"""Error code of a message that was not sent: this queue carries text, and its body is bytes."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The numbers of messages in a queue; approximate where the queue says so."""

    visible: int
    in_flight: int
    delayed: int = 0

    @property
    def is_empty(self) -> bool:
        return self.visible == self.in_flight == self.delayed == 0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. Attributes never have an empty value."""

    body: str | bytes
    attributes: Mapping[str, str]
    envelope: Envelope = NO_ENVELOPE
    """For queues that carry one; others leave it out."""


@dataclass(frozen=True, slots=True)
class QueueUrls:
    """The URLs of a queue and of its dead-letter queue."""

    queue_url: str
    dead_letter_queue_url: str


class MessageQueue(Protocol):
    """A queue that hides a received message for a visibility timeout until it is settled.

    Every method may be called from any thread and raises ``QueueUnavailable`` when the queue
    cannot be reached; responses to batch calls are read item by item. It has a timeout: ``receive``
    and each call that settles end within the limits of those stages (``pipeline/stages.py``). A
    method that settles or extends takes any number of messages and splits them into calls itself.
    Settling a message whose receipt is no longer valid is not an error: the message was delivered
    again, and its new delivery settles it.
    """

    label: str
    """Short name for log lines: ``SQS``, ``SQS (orders)``, ``memory``."""
    max_hold_seconds: float
    """Longest time that a message may wait in hand for another dependency."""

    @property
    def counts_lag_seconds(self) -> float:
        """How long ``backlog`` may take to show a change; 0 where it counts what is there."""
        ...

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        """Wait up to ``wait_seconds`` for at most ``max_messages`` (1 to ``MAX_RECEIVED``); may
        return none.
        """
        ...

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Delete messages whose effect every store has confirmed."""
        ...

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        """Make a message visible again after a delay."""
        ...

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        """Put a copy with the reason where rejected messages wait; acknowledge the message then.

        The copy is confirmed when this returns. It carries what
        ``rejections.rejection_attributes`` returns.
        """
        ...

    def release(self, messages: Sequence[Message]) -> None:
        """Make messages visible again at once."""
        ...

    def extend(self, messages: Sequence[Message], visibility_seconds: int) -> list[Message]:
        """Hide messages for ``visibility_seconds`` from now; return those whose receipt is no
        longer valid.
        """
        ...

    def probe(self) -> None:
        """Raise while the queue would refuse to settle messages; no message is touched."""
        ...

    def describe(self) -> str:
        """Return what was reached and what cannot be done there, in words, for an operator."""
        ...

    def backlog(self) -> Backlog:
        """Count the messages that wait and those in flight, in any consumer."""
        ...

    def close(self) -> None:
        """Close connections; called once, after the last other call."""
        ...


class Sender(Protocol):
    """A sender to one queue: a message counts as sent once the queue has confirmed it.

    ``send`` and ``publish`` raise ``QueueUnavailable`` when the queue cannot be reached. Some
    messages of that call may have been sent then.
    """

    queue_name: str
    """The value of ``source_queue`` in rejected messages of this queue."""
    batch_size: int
    """The number of messages that one call takes best."""

    def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
        """Send messages; return the error code of each refused message, by its position."""
        ...

    def publish(self, bodies: Iterable[str]) -> int:
        """Send any number of messages without attributes; return how many were sent.

        ``bodies`` may be a generator: one batch is held at a time. Raises ``QueueUnavailable`` at
        the first batch that was not sent in full; its text says how many were sent before.
        """
        ...

    def close(self) -> None:
        """Close connections; called once, after the last other call."""
        ...


def size_bytes(body: str | bytes) -> int:
    """Return the size of a body as queues limit it; text counts as UTF-8."""
    return len(body) if isinstance(body, bytes) else len(body.encode("utf-8", "surrogatepass"))
