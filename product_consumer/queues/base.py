"""What the consumer loop needs of a queue. Implementations stand beside this file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from product_consumer.models import Message
from product_consumer.outcomes import Rejected


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many messages a queue reports; approximate on SQS."""

    visible: int
    in_flight: int
    delayed: int = 0

    @property
    def is_empty(self) -> bool:
        return self.visible == self.in_flight == self.delayed == 0


class MessageQueue(Protocol):
    """A queue that hides a received message for a visibility timeout until it is settled.

    Every method may be called from any thread and raises ``QueueUnavailable`` when the queue
    cannot be reached; batch replies are read item by item. To settle a message whose receipt is
    no longer valid is not an error: it was delivered again, and its new delivery settles it.
    """

    label: str
    """Short name for log lines: ``SQS``, ``memory``."""

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        """Wait up to ``wait_seconds`` for at most ``max_messages`` (1 to 10); may return none."""
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
