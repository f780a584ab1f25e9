"""The error tree: the branch an error belongs to decides what happens to its message.

ProductConsumerError
  x RejectMessage          permanent: to the dead-letter queue with the reason, never retried
      + InvalidMessage        not JSON, missing id, wrong type, price without a number
      + ImageRejected         not an image, over a limit, address not allowed
      + EmbeddingRejected     the model's embedding is not finite
  x IgnoreMessage          nothing to do (a test event of S3): acknowledged and counted
  x RetryMessage           may pass later: visible again after a backoff, a bounded number of times
      + ImageUnavailable      timeout, 5xx, 429, DNS, not there yet
  x Unavailable            a dependency is down: hold or release messages, receive no more meanwhile
      + QueueUnavailable
      + StoreUnavailable
      + LedgerUnavailable
  x ConfigurationError     refuse to start (exit 78), naming the setting and what is allowed
  x FatalError             the process cannot go on (exit 70); nothing is acknowledged
      + ModelBroken           the model gives invalid embeddings of everything

Any other exception is a bug of ours: logged with its traceback, retried at most
``MAX_UNEXPECTED_ATTEMPTS`` times, then rejected as ``unexpected:<type>``.
"""

MAX_UNEXPECTED_ATTEMPTS = 3


class ProductConsumerError(Exception):
    """Base of every error raised on purpose by this project."""


class _ReasonedError(ProductConsumerError):
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail or reason


class RejectMessage(_ReasonedError):
    """Raised when a message can never succeed.

    ``reason`` is a short machine-readable name (``json_invalid``, ``missing:price``); ``detail`` is
    for a person and may quote a little of the input.
    """


class InvalidMessage(RejectMessage):
    """Raised when a message body is not a product message."""


class ImageRejected(RejectMessage):
    """Raised when an image may not be fetched, or the fetched bytes cannot be used."""


class EmbeddingRejected(RejectMessage):
    """Raised when the model twice returns an embedding that is not finite or has no length."""


def is_refusal(error: Exception) -> bool:
    """Return whether a store or the ledger refused a record without saying that it is down.

    It may refuse every record then. So the message is blamed only while a good record is taken.
    """
    return isinstance(error, RetryMessage) or (
        isinstance(error, RejectMessage) and error.reason == "store_rejected"
    )


class IgnoreMessage(_ReasonedError):
    """Raised for a message that carries nothing, such as S3's test event."""


class RetryMessage(_ReasonedError):
    """Raised when the same message may succeed later.

    ``delay_seconds``: when to try again; None leaves it to the exponential backoff.
    ``max_attempts``: deliveries after which it is rejected; None means the setting
    ``MAX_ATTEMPTS``. ``final_reason``: the reason given then; None means
    ``retries_exhausted:<reason>``.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        delay_seconds: float | None = None,
        max_attempts: int | None = None,
        final_reason: str | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.delay_seconds = delay_seconds
        self.max_attempts = max_attempts
        self.final_reason = final_reason or f"retries_exhausted:{reason}"


class ImageUnavailable(RetryMessage):
    """Raised when an image server did not answer, or answered with a passing failure."""


class Unavailable(ProductConsumerError):
    """Raised when a dependency is down; says nothing about any single message.

    ``dependency``: its name, such as ``ledger`` or ``milvus``.
    """

    def __init__(self, dependency: str, detail: str) -> None:
        super().__init__(f"{dependency} is unavailable: {detail}")
        self.dependency = dependency
        self.detail = detail


class QueueUnavailable(Unavailable):
    """Raised when the queue cannot be reached or refuses a call for a passing reason."""


class StoreUnavailable(Unavailable):
    """Raised when a store cannot take or confirm a write now."""


class LedgerUnavailable(Unavailable):
    """Raised when the ledger's database cannot be reached or is too busy."""


class ConfigurationError(ProductConsumerError):
    """Raised when a setting cannot work.

    ``setting`` is the name as the operator writes it. ``problem`` tells the wrong value and the
    allowed ones.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class FatalError(ProductConsumerError):
    """Raised when the process must end and be restarted (exit 70)."""


class ModelBroken(FatalError):
    """Raised when the model gives invalid embeddings even of items that it embedded before.

    No message is the cause, so none becomes a crash suspect.
    """
