"""Error -> outcome of its message: the one place that decides it."""

import logging

from product_consumer.errors import (
    MAX_UNEXPECTED_ATTEMPTS,
    ConfigurationError,
    FatalError,
    IgnoreMessage,
    RejectMessage,
    RetryMessage,
    Unavailable,
)
from product_consumer.models import Message
from product_consumer.outcomes import Ignored, Outcome, Rejected, Released, RetryLater
from product_consumer.pipeline.backoff import exponential_delay_seconds

log = logging.getLogger(__name__)


def outcome_of(error: Exception, message: Message, stage: str, *, max_attempts: int) -> Outcome:
    """Return the outcome that the error's class asks for; raises a ``FatalError``.

    ``max_attempts``: deliveries after which a passing failure is final, unless the error has a
    limit of its own.
    """
    match error:
        case FatalError():
            raise error
        case RejectMessage():
            return Rejected(stage, error.reason, error.detail)
        case IgnoreMessage():
            return Ignored(error.reason)
        case RetryMessage():
            return _retry(message, stage, error, max_attempts)
        case Unavailable() | ConfigurationError():
            # A dependency is down or set up wrongly. That is never the message's fault.
            return Released(str(error))
        case _:
            log.error("Unexpected error at %s", stage, exc_info=error)
            return _retry(message, stage, _unexpected(error), max_attempts)


def _retry(message: Message, stage: str, error: RetryMessage, max_attempts: int) -> Outcome:
    if message.receive_count >= (error.max_attempts or max_attempts):
        return Rejected(stage, error.final_reason, error.detail)
    delay_seconds = error.delay_seconds
    if delay_seconds is None:
        delay_seconds = exponential_delay_seconds(message.receive_count)
    return RetryLater(delay_seconds, stage, error.reason)


def _unexpected(error: Exception) -> RetryMessage:
    """Return a bug of ours as a failure that may pass: the next attempt may take another path."""
    name = f"unexpected:{type(error).__name__}"
    return RetryMessage(name, str(error), max_attempts=MAX_UNEXPECTED_ATTEMPTS, final_reason=name)
