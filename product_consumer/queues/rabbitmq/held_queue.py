"""A queue whose messages are looked at one by one and given back: for dead letters.

Nothing is delivered that nobody asked for, so a look at ten messages leaves the others alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from threading import Event
from time import monotonic
from typing import Any
from uuid import uuid4

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queues.base import Backlog
from product_consumer.queues.rabbitmq import topology
from product_consumer.queues.rabbitmq.amqp.answers import Answer, settle
from product_consumer.queues.rabbitmq.amqp.client import GET_EMPTY, Channel
from product_consumer.queues.rabbitmq.amqp.connection import IoThread, Link
from product_consumer.queues.rabbitmq.amqp.deliveries import Delivery
from product_consumer.queues.rabbitmq.amqp.errors import (
    at_start,
    unavailable,
    unavailable_on_error,
)
from product_consumer.queues.rabbitmq.copies import to_message
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.queues.rejections import MOVED_BECAUSE

_ANSWER_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.1
"""A message that was given back shows after up to 12 ms."""


class HeldQueue:
    """A ``MessageQueue`` for one thread; what it has received stays hidden until it is closed."""

    max_hold_seconds = 0.0
    counts_lag_seconds = 0.0

    def __init__(self, url: AmqpUrl, connection_name: str) -> None:
        """Connect; raises what ``amqp.errors.at_start`` makes of a failure."""
        self.label = url.queue
        self._queue = url.queue
        self._io = IoThread("rabbitmq-io")
        self._ready = Event()
        self._tries = len(url.nodes)
        self._problem: BaseException | None = None
        self._channel: Channel | None = None
        self._held: dict[str, int] = {}
        self._origin = uuid4().hex[:12]
        self._on_empty: Callable[[], object] = lambda: None
        self._link = Link(self._io, url.nodes, connection_name, self._connected, self._lost)
        self._io.post(self._link.open)
        if not self._ready.wait(_ANSWER_SECONDS) or self._problem is not None:
            self._io.close()
            raise at_start("connecting", self._problem or TimeoutError("no answer in time"), url)

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        received: list[Message] = []
        ends_at = monotonic() + min(wait_seconds, _LOOK_AGAIN_SECONDS)
        while len(received) < max_messages:
            delivery = self._ask("receiving", self._get)
            if delivery is not None:
                received.append(_with_reason(to_message(delivery, datetime.now(UTC))))
                self._held[delivery.receipt] = delivery.tag
            elif received or monotonic() >= ends_at:
                break
            else:
                Event().wait(_LOOK_AGAIN_SECONDS)
        return received

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Delete messages; returns once the server has seen it."""
        self._settle(messages, "basic_ack")

    def release(self, messages: Sequence[Message]) -> None:
        self._settle(messages, "basic_nack")

    def extend(self, messages: Sequence[Message], visibility_seconds: int) -> list[Message]:
        """Return the messages whose channel is gone; the others stay hidden while it lives."""
        return [message for message in messages if message.receipt_handle not in self._held]

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        """Give it back; dead letters wait for nothing."""
        self.release([message])

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        """Dead letters are in their last place."""
        raise QueueUnavailable(self.label, "a dead letter is not rejected again")

    def probe(self) -> None:
        if self._channel is None:
            raise unavailable("settling", self._problem or ConnectionError("not connected"))

    def describe(self) -> str:
        return self._link.server

    def backlog(self) -> Backlog:
        counts = self._ask("counting", partial(topology.count, self._link, [self._queue]))
        return Backlog(counts[self._queue].ready if self._queue in counts else 0, len(self._held))

    def close(self) -> None:
        self._io.close()

    def _connected(self) -> None:
        def opened(channel: Channel) -> None:
            channel.add_callback(lambda _frame: self._on_empty(), [GET_EMPTY], one_shot=False)
            channel.queue_declare(self._queue, passive=True, callback=found)

        def found(_frame: object) -> None:
            self._channel, self._problem = channel, None
            self._ready.set()

        channel = self._link.channel(opened)
        channel.add_on_close_callback(lambda _channel, error: self._closed(error))

    def _lost(self, error: BaseException) -> None:
        # What was held is ready again.
        self._channel = None
        self._held.clear()
        self._problem = error
        self._tries -= 1
        if self._tries <= 0:
            self._ready.set()

    def _closed(self, error: BaseException) -> None:
        """The server closed the channel: another try ends in the same way."""
        self._tries = 0
        self._lost(error)

    def _get(self, answer: Answer) -> None:
        self._on_empty = lambda: settle(answer, None)

        def got(_channel: Channel, method: Any, properties: Any, body: bytes) -> None:
            tag = method.delivery_tag
            settle(answer, Delivery(self._origin, 0, tag, body, properties, method.redelivered))

        self._open_channel().basic_get(self._queue, got)

    def _settle(self, messages: Sequence[Message], method: str) -> None:
        receipts = [message.receipt_handle for message in messages]
        tags = [tag for receipt in receipts if (tag := self._held.pop(receipt, None)) is not None]

        def start(answer: Answer) -> None:
            channel = self._open_channel()
            for tag in tags:
                getattr(channel, method)(tag)
            # Answered behind what was settled, on the same channel.
            channel.queue_declare(
                self._queue, passive=True, callback=lambda _frame: settle(answer, None)
            )

        if tags:
            self._ask("settling", start)

    def _open_channel(self) -> Channel:
        if self._channel is None or not self._channel.is_open:
            raise self._problem or ConnectionError("not connected")
        return self._channel

    def _ask(self, action: str, start: Callable[[Answer], object]) -> Any:
        with unavailable_on_error(action):
            return self._io.ask(start, _ANSWER_SECONDS)


def _with_reason(message: Message) -> Message:
    """Return a message with the reason of its last move, if the server moved it."""
    headers = message.envelope.headers
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else None
    reason = headers.get("x-last-death-reason") or (
        last.get("reason") if isinstance(last, dict) else headers.get("x-first-death-reason")
    )
    if not isinstance(reason, str):
        return message
    return replace(message, attributes={**message.attributes, MOVED_BECAUSE: reason})
