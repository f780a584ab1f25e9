"""Outcomes: five frozen values, of which a pipeline returns one per message.

Only the consumer loop acts on an outcome, exactly once. Each has the words of its log line.
"""

import logging
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Stored:
    """Every enabled store has confirmed the product's current row: acknowledge."""

    product_id: str
    level: ClassVar[int] = logging.INFO

    def in_words(self, _message_id: str) -> str:
        return f"processed ID: {self.product_id}"


@dataclass(frozen=True, slots=True)
class Ignored:
    """The message carries nothing: acknowledge it."""

    reason: str
    level: ClassVar[int] = logging.INFO

    def in_words(self, message_id: str) -> str:
        return f"ignored message {message_id}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message can never succeed: send it to the dead-letter queue."""

    stage: str
    reason: str
    detail: str
    level: ClassVar[int] = logging.WARNING

    def in_words(self, message_id: str) -> str:
        place = f"message {message_id} at {self.stage}"
        return f"rejected {place}: {self.reason} ({self.detail})"


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The message may succeed later: make it visible again after ``delay_seconds``."""

    delay_seconds: float
    stage: str
    reason: str
    level: ClassVar[int] = logging.INFO

    def in_words(self, message_id: str) -> str:
        delay = f"{self.delay_seconds:.0f} s"
        return f"will retry message {message_id} in {delay} after {self.stage}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Released:
    """We or a dependency cannot go on: make the message visible again at once."""

    reason: str
    level: ClassVar[int] = logging.INFO

    def in_words(self, message_id: str) -> str:
        return f"released message {message_id}: {self.reason}"


Outcome = Stored | Ignored | Rejected | RetryLater | Released
"""The outcome of one message; only the consumer loop settles messages."""
