"""Opens queues and senders on RabbitMQ: the ``Transport`` that ``queues/opening.py`` calls."""

import logging
import os
import socket

from product_consumer.errors import ConfigurationError
from product_consumer.queue_addresses import QueueAddress
from product_consumer.queues.base import QueueUrls
from product_consumer.queues.rabbitmq import topology
from product_consumer.queues.rabbitmq.held_queue import HeldQueue
from product_consumer.queues.rabbitmq.management import Management
from product_consumer.queues.rabbitmq.queue import RabbitQueue
from product_consumer.queues.rabbitmq.rights import check_right_to_consume
from product_consumer.queues.rabbitmq.sender import RabbitSender
from product_consumer.queues.rabbitmq.url import AmqpUrl, read_url
from product_consumer.queues.reject_log import RejectLog
from product_consumer.settings import Settings

NAME = "RabbitMQ"
HAS_DEAD_LETTER_URLS = False
SENT_TIME_LINE = "message_interceptors.incoming.set_header_timestamp.overwrite = false"
"""Line of rabbitmq.conf that gives every message the time at which it was sent."""

log = logging.getLogger(__name__)


def open_queue(settings: Settings, address: QueueAddress, label: str = NAME) -> RabbitQueue:
    """Connect to a queue, check that it can be used, and find its dead-letter queue.

    Raises ``ConfigurationError`` when no retry can help (no such queue, a refused log-in, no right)
    and ``QueueUnavailable`` when it cannot be reached now; then it may be called again.
    """
    url = read_url(address.require_url(), address.url_setting)
    prefetch = settings.threads * settings.batch_size
    queue = _connected(url, settings, label, prefetch, f"product-consumer {address.stream}")
    try:
        queue.dead_letter_name = _find_dead_letter_queue(queue, url, address)
    except BaseException:
        queue.close()
        raise
    log.info("Rejected messages go to %s", queue.dead_letter_name or settings.reject_log_path)
    return queue


def open_stream_queue(
    url: AmqpUrl, settings: Settings, *, label: str, prefetch: int
) -> RabbitQueue:
    """Connect to the queue of a data stream, and make it where it is missing.

    Rejected messages go to ``<queue>-dead-letter`` if there is one. Raises as ``open_queue``.
    """
    sender = open_stream_sender(url, settings)
    sender.close()
    queue = _connected(url, settings, label, prefetch, f"product-consumer {url.queue}")
    try:
        queue.dead_letter_name = _existing(queue, topology.dead_letter_name(url.queue))
    except BaseException:
        queue.close()
        raise
    return queue


def open_dead_letter_queue(
    settings: Settings, address: QueueAddress, visibility_timeout_seconds: int
) -> HeldQueue | None:
    """Return the dead-letter queue of a queue; None where there is none. Raises as ``open_queue``.

    Its label is its name. Messages stay hidden until it is closed.
    """
    source = open_queue(settings, address)
    source.close()
    if source.dead_letter_name is None:
        return None
    url = read_url(address.require_url(), address.url_setting)
    return HeldQueue(url.with_queue(source.dead_letter_name), _named("product-consumer dlq"))


def open_sender(settings: Settings, address: QueueAddress) -> RabbitSender:
    """Return a sender to a queue. Raises as ``open_queue``."""
    url = read_url(address.require_url(), address.url_setting)
    return RabbitSender(url, _named("product-consumer sender"))


def open_stream_sender(url: AmqpUrl, settings: Settings) -> RabbitSender:
    """Return a sender to the queue of a data stream, which is made where it is missing."""
    sender = RabbitSender(url, _named("product-consumer sender"))
    try:
        sender.make([topology.stream_queue(url.queue)])
    except BaseException:
        sender.close()
        raise
    return sender


def set_up_queue(
    settings: Settings, address: QueueAddress, name: str | None, max_receive_count: int | None
) -> QueueUrls:
    """Make a queue, its dead-letter queue and its retry queues; existing ones stay as they are."""
    url = read_url(address.require_url(), address.url_setting)
    url = url if name is None else url.with_queue(name)
    limit = topology.DELIVERY_LIMIT if max_receive_count is None else max_receive_count
    sender = RabbitSender(url, _named("product-consumer setup-queues"))
    try:
        # A queue is made before those whose messages go to it: without a target they go nowhere.
        retries = [topology.retry_queue(url.queue, at) for at in topology.retry_names(url.queue)]
        main = topology.main_queue(url.queue, limit)
        queues = [topology.dead_letter_queue(url.queue), main, *retries]
        made = sender.make(queues)
    finally:
        sender.close()
    kept = [queue.name for queue in queues[:2] if queue.name not in made]
    if kept:
        log.warning("Used as they are, whatever their arguments: %s", ", ".join(kept))
    log.warning("Messages without a time are ordered by their arrival. %s", _HOW_TO_STAMP)
    return QueueUrls(url.shown, topology.dead_letter_name(url.queue))


_HOW_TO_STAMP = f"RabbitMQ 4 stamps them all with this line in rabbitmq.conf: {SENT_TIME_LINE}"


def _connected(
    url: AmqpUrl, settings: Settings, label: str, prefetch: int, name: str
) -> RabbitQueue:
    management_url = settings.rabbitmq_management_url
    queue = RabbitQueue(
        url,
        label=label,
        prefetch=prefetch,
        lease_seconds=settings.lease_seconds,
        reject_log=RejectLog(settings.reject_log_path),
        connection_name=_named(name),
        management=None
        if management_url is None
        else Management(management_url.get_secret_value(), url.nodes[0]),
    )
    try:
        queue.wait_until_open()
        check_right_to_consume(queue, url)
    except BaseException:
        queue.close()
        raise
    return queue


def _find_dead_letter_queue(queue: RabbitQueue, url: AmqpUrl, address: QueueAddress) -> str | None:
    name, setting = address.dead_letter_url, address.dead_letter_url_setting
    if name is None:
        return _existing(queue, topology.dead_letter_name(url.queue))
    if "://" in name:
        raise ConfigurationError(setting, f"needs the name of a queue, since {url.setting} is amqp")
    if name == url.queue:
        raise ConfigurationError(setting, "is the queue that it should serve")
    if _existing(queue, url.with_queue(name).queue) is None:
        raise ConfigurationError(setting, f"there is no queue {name!r} on this server")
    return name


def _existing(queue: RabbitQueue, name: str) -> str | None:
    return name if name in queue.count([name]) else None


def _named(purpose: str) -> str:
    """Return the name of a connection, as the server's management page shows it."""
    return f"{purpose} {socket.gethostname()}:{os.getpid()}"
