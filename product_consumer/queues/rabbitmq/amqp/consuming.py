"""The channel that receives and settles: opened again for ever, consumed while somebody asks."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Enum, auto
from math import inf
from threading import Condition
from typing import Any

from product_consumer.queues.rabbitmq.amqp.client import Channel
from product_consumer.queues.rabbitmq.amqp.connection import IoThread, Link
from product_consumer.queues.rabbitmq.amqp.deliveries import Deliveries, Delivery
from product_consumer.queues.rabbitmq.url import AmqpUrl

log = logging.getLogger(__name__)

IDLE_SECONDS = 2.0
"""Time without a receive after which the buffer is given back: another machine may want it."""
_TICK_SECONDS = 0.5
MIN_REOPEN_SECONDS, MAX_REOPEN_SECONDS = 0.25, 10.0
"""Between two looks for a queue that is not there, or that refuses a consumer."""


class QueueGone(ConnectionError):
    """The server ended the consumer: the queue was deleted, or a message was kept too long."""


class _State(Enum):
    DOWN = auto()
    READY = auto()
    """The queue is there; nothing is consumed."""
    STARTING = auto()
    CONSUMING = auto()
    STOPPING = auto()


class ConsumingChannel:
    """A channel, on a connection of its own, that consumes one queue into ``deliveries``.

    ``wait_until_ready``, ``problem``, ``is_ready`` and ``is_consuming`` are for any thread. All
    receipts of a channel end with it.
    """

    def __init__(
        self, io: IoThread, url: AmqpUrl, name: str, prefetch: int, deliveries: Deliveries
    ) -> None:
        """``name``: of the connection."""
        self._io = io
        self.link = Link(io, url.nodes, name, self._open, self._lose)
        self._queue = url.queue
        self._prefetch = prefetch
        self._deliveries = deliveries
        self._channel: Channel | None = None
        self._consumer_tag = ""
        self._generation = 0
        self._state = _State.DOWN
        self._changed = Condition()
        self._failures = 0
        self._is_refused = False
        self.problem: BaseException | None = None
        """Why nothing can be received now; None while the queue is there, or before it is known."""
        io.post(self.link.open)
        io.post(self.tick)

    @property
    def is_ready(self) -> bool:
        """Whether the queue is there, and messages can be settled."""
        return self._state is not _State.DOWN

    @property
    def _is_usable(self) -> bool:
        return self.is_ready and self.problem is None

    @property
    def is_consuming(self) -> bool:
        """Whether messages are being delivered."""
        return self._state in (_State.STARTING, _State.CONSUMING)

    def wait_until_ready(self, seconds: float, tries: float = inf) -> BaseException | None:
        """Wait for the queue, or for ``tries`` failures; return why it cannot be used."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_usable or self._failures >= tries, seconds)
            if self._is_usable:
                return None
            return self.problem or TimeoutError("no answer in time")

    def start(self) -> None:
        """Consume, if nothing is consumed and the queue is there."""
        if self._state is not _State.READY or self._channel is None:
            return
        self._state = _State.STARTING
        generation = self._generation
        self._consumer_tag = self._channel.basic_consume(
            self._queue,
            lambda _channel, method, properties, body: self._deliver(
                generation, method, properties, body
            ),
            callback=lambda _frame: self._started(generation),
        )

    def tick(self) -> None:
        """Give back what was kept too long, and what nobody asks for; runs twice a second."""
        self._io.later(_TICK_SECONDS, self.tick)
        overdue = self._deliveries.take_overdue()
        if overdue:
            self.release(overdue)
        if self._state is _State.CONSUMING:
            idle = self._deliveries.take_buffer(IDLE_SECONDS)
            if idle:
                self._stop(idle)
        elif self._state is _State.READY and self._deliveries.is_wanted:
            self.start()

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge those of this channel; the others were delivered again, or will be."""
        for channel, delivery in self._live(deliveries):
            channel.basic_ack(delivery.tag)

    def release(self, deliveries: list[Delivery]) -> None:
        """Give messages back; without anybody who asks for more, they do not come here again."""
        if self._state is _State.CONSUMING and not self._deliveries.is_wanted:
            self._stop([*deliveries, *self._deliveries.take_buffer()])
        else:
            self.give_back(deliveries)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Make messages ready again, in order."""
        for channel, delivery in self._live(deliveries):
            channel.basic_nack(delivery.tag, requeue=True)

    def _live(self, deliveries: Iterable[Delivery]) -> Iterator[tuple[Channel, Delivery]]:
        """Yield the deliveries of this channel: a tag that it does not know would close it."""
        for delivery in deliveries:
            channel = self._channel
            if channel is not None and channel.is_open and delivery.generation == self._generation:
                yield channel, delivery

    def _open(self) -> None:
        if not self.link.is_open or self._channel is not None:
            return
        self._generation += 1
        generation = self._generation
        channel = self.link.channel(lambda _channel: self._opened(generation))
        channel.add_on_close_callback(lambda _channel, error: self._closed(generation, error))
        channel.add_on_cancel_callback(lambda _frame: self._cancelled(generation))
        self._channel = channel

    def _opened(self, generation: int) -> None:
        if generation == self._generation and self._channel is not None:
            # Per consumer: a quorum queue of older versions ends the connection for a global limit.
            self._channel.basic_qos(prefetch_count=self._prefetch)
            self._channel.queue_declare(
                self._queue, passive=True, callback=lambda _frame: self._found(generation)
            )

    def _found(self, generation: int) -> None:
        if generation != self._generation:
            return
        with self._changed:
            self._state = _State.READY
            if not self._is_refused:
                self.problem, self._failures = None, 0
            self._changed.notify_all()
        if self._deliveries.is_wanted:
            self.start()

    def _started(self, generation: int) -> None:
        if generation == self._generation:
            self._state, self._is_refused = _State.CONSUMING, False
            self.problem, self._failures = None, 0

    def _deliver(self, generation: int, method: Any, properties: Any, body: bytes) -> None:
        if generation != self._generation or self._channel is None:
            return
        if self._state is _State.STOPPING:
            self._channel.basic_nack(method.delivery_tag, requeue=True)
            return
        delivery = Delivery(
            self._deliveries.origin,
            generation,
            method.delivery_tag,
            body,
            properties,
            method.redelivered,
        )
        if self._deliveries.add(delivery):
            # Runs behind everything that the server has sent by now.
            self._io.post(self._deliveries.wake)

    def _stop(self, then_give_back: list[Delivery]) -> None:
        """Cancel the consumer first, or what is given back comes straight back."""
        if self._channel is None:
            return
        self._state = _State.STOPPING
        generation = self._generation

        def cancelled(_frame: object) -> None:
            if generation == self._generation:
                self.give_back(then_give_back)
                self._state = _State.READY
                if self._deliveries.is_wanted:
                    self.start()

        self._channel.basic_cancel(self._consumer_tag, callback=cancelled)

    def _cancelled(self, generation: int) -> None:
        """The server has ended the consumer; what it had delivered is ready again."""
        if generation == self._generation:
            channel = self._channel
            self._lose(QueueGone("the server ended the consumer"))
            if channel is not None and channel.is_open:
                with suppress(Exception):
                    channel.close()
            self._open()

    def _closed(self, generation: int, error: BaseException) -> None:
        if generation == self._generation and self._channel is not None:
            self._lose(error)
            pause = min(MAX_REOPEN_SECONDS, MIN_REOPEN_SECONDS * 2.0 ** min(self._failures, 8))
            self._io.later(pause, self._open)

    def _lose(self, error: BaseException) -> None:
        # Callbacks of the channel that still arrive belong to an older generation now.
        self._generation += 1
        self._channel = None
        self._deliveries.forget()
        # A queue that is there may still refuse its consumer.
        self._is_refused = self._is_refused or self._state is _State.STARTING
        with self._changed:
            self._state, self.problem = _State.DOWN, error
            self._failures += 1
            self._changed.notify_all()
