"""What became of one message: five frozen values, of which a pipeline returns one per message.

Only the consumer loop acts on them, exactly once each.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stored:
    """Every enabled store has confirmed the product's current row: acknowledge."""

    product_id: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """The message carries nothing: acknowledge and count."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message can never succeed: to the dead-letter queue."""

    stage: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Visible again after ``delay_seconds``."""

    delay_seconds: float
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """Visible again at once, unworked or half-worked, because we or a dependency cannot go on."""

    reason: str


Outcome = Stored | Ignored | Rejected | RetryLater | Released
"""What became of one message; only the consumer loop settles it."""
