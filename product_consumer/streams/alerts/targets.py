"""What ``--alerts`` names: a queue, a webhook or the log."""

from dataclasses import dataclass

from product_consumer.errors import ConfigurationError
from product_consumer.network.addresses import check_url

SETTING = "--alerts"
LOG = "log"
_SCHEMES = ("http", "https")
_MAX_QUEUE_BYTES = 255
"""Of the name of a queue: what AMQP can say."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that alerts are sent to by HTTP."""

    url: str


@dataclass(frozen=True, slots=True)
class AlertQueue:
    """A queue on the same server as the records."""

    name: str


@dataclass(frozen=True, slots=True)
class Log:
    """The log of this process."""


OtherPlace = Webhook | Log
Target = AlertQueue | OtherPlace


def read_target(text: str, setting: str = SETTING) -> Target:
    """Return what ``setting`` names; raises ``ConfigurationError``, which never quotes a URL."""
    if text == LOG:
        return Log()
    if "://" in text:
        try:
            return Webhook(check_url(text, _SCHEMES, "https://host/path"))
        except ValueError as error:
            raise ConfigurationError(setting, str(error)) from None
    if not text.strip() or len(text.encode("utf-8", "replace")) > _MAX_QUEUE_BYTES:
        raise ConfigurationError(setting, "needs the name of a queue, a URL, or log")
    return AlertQueue(text)
