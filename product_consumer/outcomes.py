"""What became of one message: five frozen values, of which a pipeline returns one per message.

Only the consumer loop acts on them, exactly once each. Each has the words of its log line.
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
    """The message carries nothing: acknowledge and count."""

    reason: str
    level: ClassVar[int] = logging.INFO

    def in_words(self, message_id: str) -> str:
        return f"ignored message {message_id}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message can never succeed: to the dead-letter queue."""

    stage: str
    reason: str
    detail: str
    level: ClassVar[int] = logging.WARNING

    def in_words(self, message_id: str) -> str:
        what = f"rejected message {message_id} at {self.stage}"
        return f"{what}: {self.reason} ({self.detail})"


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Visible again after ``delay_seconds``."""

    delay_seconds: float
    stage: str
    reason: str
    level: ClassVar[int] = logging.INFO

    def in_words(self, message_id: str) -> str:
        what = f"will retry message {message_id} in {self.delay_seconds:.0f} s"
        return f"{what} after {self.stage}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Released:
    """Visible again at once, unworked or half-worked, because we or a dependency cannot go on."""

    reason: str
    level: ClassVar[int] = logging.INFO

    def in_words(self, message_id: str) -> str:
        return f"released message {message_id}: {self.reason}"


Outcome = Stored | Ignored | Rejected | RetryLater | Released
"""What became of one message; only the consumer loop settles it."""
