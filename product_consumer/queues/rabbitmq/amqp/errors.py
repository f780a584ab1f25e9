"""What pika and the server say, as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.network.tls import cause_in_words, why_plain_fails
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.refusals import RABBITMQ, TLS_ONLY, find_refusal
from product_consumer.text import printable

_MAX_CHARACTERS = 300


def unavailable(action: str, error: BaseException) -> QueueUnavailable:
    """Return the error for a call that the server could not be asked for, or refused."""
    return QueueUnavailable("RabbitMQ", f"{action}: {in_words(error)}")


@contextmanager
def unavailable_on_error(action: str) -> Iterator[None]:
    """Raise ``unavailable`` for every error of the block, which asks the I/O thread."""
    try:
        yield
    except Exception as error:
        raise unavailable(action, error) from error


def at_start(action: str, error: BaseException, url: AmqpUrl) -> Exception:
    """Return the error that ends a start: a wrong setting where no wait mends it."""
    words = in_words(error)
    node = url.nodes[0]
    if not node.is_tls and why_plain_fails(node.host, node.port):
        words = TLS_ONLY
    refusal = find_refusal(RABBITMQ, codes_of(error), words)
    if refusal is None:
        return unavailable(action, error)
    if refusal.setting is None:
        return QueueUnavailable("RabbitMQ", f"{words} ({refusal.why})")
    return ConfigurationError(url.setting, f"{refusal.why}: {words}")


def codes_of(error: BaseException) -> list[str]:
    """Return the reply codes and the names of an error and everything behind it."""
    codes: list[str] = []
    for cause in _causes(error):
        reply_code = getattr(cause, "reply_code", None)
        codes += [] if reply_code is None else [str(reply_code)]
        codes += [kind.__name__ for kind in type(cause).__mro__]
    return codes


def is_missing(error: BaseException) -> bool:
    """Return whether the server said that there is no such queue."""
    return "404" in codes_of(error)


def in_words(error: BaseException) -> str:
    """Return what the server, the system or pika said, in one line."""
    causes = list(_causes(error))
    replies = (getattr(cause, "reply_text", None) for cause in causes)
    words = next((str(reply) for reply in replies if reply), "")
    for cause in causes:
        words = words or cause_in_words(cause)
    words = words or next((str(cause) for cause in reversed(causes) if str(cause)), "")
    return printable(words or type(error).__name__)[:_MAX_CHARACTERS]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what is behind it; pika keeps causes in attributes of its own."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        behind: list[object] = [cause.__cause__, getattr(cause, "exception", None), *cause.args]
        behind += getattr(cause, "exceptions", None) or ()
        waiting += [other for other in behind if isinstance(other, BaseException)]
