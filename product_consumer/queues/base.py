"""What the consumer loop needs of a queue. Implementations stand beside this file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from product_consumer.models import Message
from product_consumer.outcomes import Rejected

MAX_RECEIVED = 10
"""Most messages that one receive may ask for."""
NOT_TEXT = "NotText"
"""Code of a message to send whose body must be text in this queue, and is not."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many messages a queue reports; approximate where the queue says so."""

    visible: int
    in_flight: int
    delayed: int = 0

    @property
    def is_empty(self) -> bool:
        return self.visible == self.in_flight == self.delayed == 0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. No attribute's value is empty."""

    body: str | bytes
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class QueueUrls:
    """A queue and where its rejected messages go."""

    queue_url: str
    dead_letter_queue_url: str


class MessageQueue(Protocol):
    """A queue that hides a received message for a visibility timeout until it is settled.

    Every method may be called from any thread and raises ``QueueUnavailable`` when the queue
    cannot be reached; batch replies are read item by item. A method that settles or extends takes
    any number of messages and splits them into calls itself. To settle a message whose receipt is
    no longer valid is not an error: it was delivered again, and its new delivery settles it.
    """

    label: str
    """Short name for log lines: ``SQS``, ``SQS (orders)``, ``memory``."""

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

    def reject(self, message: Message, rejected: Rejected) -> None:
        """Put a reasoned copy where rejected messages wait, confirm it, then delete the message."""
        ...

    def release(self, messages: Sequence[Message]) -> None:
        """Make messages visible again at once."""
        ...

    def extend(self, messages: Sequence[Message], visibility_seconds: int) -> list[Message]:
        """Hide messages for ``visibility_seconds`` from now; return those whose receipt is no
        longer valid.
        """
        ...

    def backlog(self) -> Backlog:
        """Count what waits and what is in flight, in any consumer."""
        ...

    def close(self) -> None:
        """Close connections; called once, after the last other call."""
        ...


class Sender(Protocol):
    """Sends messages to one queue, and counts as sent only what the queue has confirmed.

    Both methods raise ``QueueUnavailable`` when the queue cannot be reached; some messages of that
    call may have been sent then.
    """

    queue_name: str
    """What rejected messages of this queue carry as ``source_queue``."""
    batch_size: int
    """How many messages are best sent at a time, by those who can choose."""

    def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
        """Send messages; return a code for each that the queue refused, by its position."""
        ...

    def publish(self, bodies: Iterable[str]) -> int:
        """Send any number of messages without attributes; return how many were sent.

        ``bodies`` may be a generator: only one batch of it is held. Ends with ``QueueUnavailable``
        at the first batch that was not sent in full, telling how many were sent before it.
        """
        ...

    def close(self) -> None:
        """Close connections; called once, after the last other call."""
        ...


def size_bytes(body: str | bytes) -> int:
    """Return how much of a queue's size limits a body takes; text counts as UTF-8."""
    return len(body) if isinstance(body, bytes) else len(body.encode("utf-8", "surrogatepass"))
