"""Opens queues by the scheme of their URL: the one file that knows every transport.

A transport is a package beside this file whose ``opening.py`` has the functions of ``Transport``.
To add one, write its package and give its schemes a line in ``_TRANSPORTS``.
"""

from collections.abc import Callable
from typing import Protocol

from product_consumer.errors import ConfigurationError
from product_consumer.queue_addresses import QueueAddress, StreamName
from product_consumer.queues.base import MessageQueue, QueueUrls, Sender
from product_consumer.settings import Settings


class Transport(Protocol):
    """The functions of a transport's ``opening.py``.

    Each raises ``ConfigurationError`` when no retry can help. The first two connect: they raise
    ``QueueUnavailable`` when the queue cannot be reached now, and may be called again then.
    """

    NAME: str
    """For log lines."""
    HAS_DEAD_LETTER_URLS: bool
    """Whether a dead-letter queue is named by a URL, not by its name on the same server."""

    def open_queue(self, settings: Settings, address: QueueAddress, label: str) -> MessageQueue:
        """Connect to a queue and check that it and its dead-letter queue can be used.

        What it receives stays hidden for ``settings.lease_seconds``, which the
        in-flight tracker extends. Without a dead-letter queue, rejected messages go to a
        ``RejectLog`` at ``settings.reject_log_path``.
        """
        ...

    def open_dead_letter_queue(
        self, settings: Settings, address: QueueAddress, visibility_timeout_seconds: int
    ) -> MessageQueue | None:
        """Connect to the dead-letter queue of a queue; None where rejected messages go to a file.

        Its label is its name.
        """
        ...

    def open_sender(self, settings: Settings, address: QueueAddress) -> Sender:
        """Return a sender to a queue."""
        ...

    def set_up_queue(
        self,
        settings: Settings,
        address: QueueAddress,
        name: str | None,
        max_receive_count: int | None,
        /,
    ) -> QueueUrls:
        """Create a queue and its dead-letter queue, or bring existing ones up to date.

        ``address`` may have no URL; where it has one, the URL names the server. Without a name or a
        count the transport chooses.
        """
        ...


def open_queue(settings: Settings, stream: StreamName) -> MessageQueue:
    """Connect to a stream's queue and check that messages may be received and settled.

    Raises ``ConfigurationError`` when no retry can help (no URL, an unknown scheme, no such queue)
    and ``QueueUnavailable`` when it cannot be reached now; then it may be called again.
    """
    address = settings.queue_of(stream)
    transport = _transport_of(address)
    is_default = stream is StreamName.PRODUCTS
    label = transport.NAME if is_default else f"{transport.NAME} ({stream})"
    queue = transport.open_queue(settings, address, label)
    try:
        queue.probe()
    except BaseException:
        queue.close()
        raise
    return queue


def open_dead_letter_queue(
    settings: Settings, stream: StreamName, visibility_timeout_seconds: int
) -> MessageQueue | None:
    """Connect to the dead-letter queue of a stream's queue, to read what is in it.

    Returns None where there is none: rejected messages go to ``rejected.jsonl`` then. Received
    messages stay hidden for ``visibility_timeout_seconds``. Raises as ``open_queue``.
    """
    address = settings.queue_of(stream)
    transport = _transport_of(address)
    return transport.open_dead_letter_queue(settings, address, visibility_timeout_seconds)


def open_sender(settings: Settings, address: QueueAddress) -> Sender:
    """Return a sender to a queue; raises ``ConfigurationError`` as ``open_queue``."""
    return _transport_of(address).open_sender(settings, address)


def set_up_queue(
    settings: Settings,
    stream: StreamName,
    name: str | None = None,
    *,
    max_receive_count: int | None = None,
) -> QueueUrls:
    """Create a stream's queue and its dead-letter queue, on SQS unless its URL says otherwise.

    After ``max_receive_count`` receives the queue moves a message by itself. The transport chooses
    what is not given. Raises ``ConfigurationError`` or ``QueueUnavailable``.
    """
    address = settings.queue_of(stream)
    transport = _sqs() if address.url is None else _transport_of(address)
    return transport.set_up_queue(settings, address, name, max_receive_count)


def _sqs() -> Transport:
    from product_consumer.queues.sqs import opening

    return opening


def _rabbitmq() -> Transport:
    from product_consumer.queues.rabbitmq import opening

    return opening


# Loaded when chosen: clients are slow to import, and those of other transports may be missing.
_TRANSPORTS: dict[str, Callable[[], Transport]] = {
    "https": _sqs,
    "http": _sqs,
    "amqp": _rabbitmq,
    "amqps": _rabbitmq,
}


def _transport_of(address: QueueAddress) -> Transport:
    load = _loader(address.require_url(), address.url_setting)
    transport = load()
    if address.dead_letter_url is not None and transport.HAS_DEAD_LETTER_URLS:
        load_other = _loader(address.dead_letter_url, address.dead_letter_url_setting)
        if load_other is not load:
            problem = f"needs a queue of the same kind as {address.url_setting}"
            raise ConfigurationError(address.dead_letter_url_setting, problem)
    return transport


def _loader(url: str, setting: str) -> Callable[[], Transport]:
    scheme = url.partition("://")[0].lower()
    if scheme not in _TRANSPORTS:
        allowed = " or ".join(f"{known}://" for known in _TRANSPORTS)
        raise ConfigurationError(setting, f"needs the queue's URL, starting with {allowed}")
    return _TRANSPORTS[scheme]
