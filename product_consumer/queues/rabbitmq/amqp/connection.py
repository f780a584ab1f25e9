"""The I/O thread: connections to RabbitMQ that open again for ever.

One thread runs everything that pika does. Other threads hand it work by ``post`` and ``ask``; one
wake-up carries all that was posted meanwhile. Whatever is not said to be for any thread is for the
I/O thread alone.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from time import monotonic
from typing import Any

from product_consumer.queues.rabbitmq.amqp.answers import Answer, NoAnswer, settle
from product_consumer.queues.rabbitmq.amqp.client import (
    AMQPError,
    Channel,
    Connection,
    IOLoop,
    parameters,
)
from product_consumer.queues.rabbitmq.url import Node

log = logging.getLogger(__name__)

MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.25, 30.0
_CLOSE_SECONDS = 3.0


class IoThread:
    """A thread with an event loop, which owns connections and everything on them."""

    def __init__(self, name: str) -> None:
        self._loop = IOLoop()
        self._posted: deque[Callable[[], object]] = deque()
        self._is_woken = False
        self._is_closing = False
        self._links: list[Link] = []
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, action: Callable[[], object]) -> None:
        """Run ``action`` soon, in the order of the calls; for any thread."""
        self._posted.append(action)
        if not self._is_woken:
            self._is_woken = True
            self._loop.add_callback_threadsafe(self._run_posted)

    def ask(self, start: Callable[[Answer], object], seconds: float) -> Any:
        """Return the result that ``start``, run in the I/O thread, brings about; for other threads.

        Raises what it sets, and ``TimeoutError`` after ``seconds``.
        """
        answer = Answer()

        def guarded() -> None:
            try:
                start(answer)
            except Exception as error:
                settle(answer, error=error)

        self.post(guarded)
        try:
            return answer.result(seconds)
        except NoAnswer:
            answer.cancel()
            raise NoAnswer("no answer in time") from None

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Run ``action`` once after a time."""
        self._loop.call_later(seconds, action)

    def add(self, link: "Link") -> None:
        """Reset this link, too, when the loop fails; for any thread."""
        self._links.append(link)

    def close(self) -> None:
        """Close every connection and end the thread, within seconds; for any other thread."""
        self._is_closing = True
        self.post(self._close_links)
        self._thread.join(_CLOSE_SECONDS + 1.0)
        if not self._thread.is_alive():
            self._loop.close()

    @property
    def loop(self) -> IOLoop:
        """What pika's connections run on."""
        return self._loop

    def _run(self) -> None:
        while True:
            try:
                self._loop.start()
            except Exception as error:
                if self._is_closing:
                    # pika does not expect the end of a connection that is being opened.
                    continue
                log.exception("RabbitMQ: connections are opened again after an unexpected error")
                for link in self._links:
                    link.reset(error)
                # What was posted behind the error.
                self._loop.add_callback_threadsafe(self._run_posted)
            if self._is_closing:
                return

    def _run_posted(self) -> None:
        self._is_woken = False
        for link in self._links:
            link.cork(True)
        try:
            while self._posted:
                self._posted.popleft()()
        finally:
            for link in self._links:
                link.cork(False)

    def _close_links(self) -> None:
        for link in self._links:
            link.close()
        self._end_when_closed(monotonic() + _CLOSE_SECONDS)

    def _end_when_closed(self, deadline: float) -> None:
        if monotonic() >= deadline or all(link.is_closed for link in self._links):
            self._loop.stop()
        else:
            self.later(0.02, lambda: self._end_when_closed(deadline))


class Link:
    """A connection to one of several nodes that opens again for ever, after growing pauses.

    A pause is about a quarter of the outage so far: the end of an outage is seen within a
    quarter of its time, and within ``MAX_PAUSE_SECONDS``. ``on_open`` is called after each opening,
    and ``on_lost`` with the cause after each loss and each failed attempt.
    """

    def __init__(
        self,
        io: IoThread,
        nodes: Sequence[Node],
        name: str,
        on_open: Callable[[], object],
        on_lost: Callable[[BaseException], object],
    ) -> None:
        """``name``: shown by the server's management page."""
        self._io = io
        self._nodes = nodes
        self._name = name
        self._on_open, self._on_lost = on_open, on_lost
        self._connection: Connection | None = None
        self._attempts = 0
        # Changes with each attempt and each loss: what an older connection still says is dropped.
        self._epoch = 0
        self._node = nodes[0]
        self._lost_at: float | None = None
        self.server = ""
        """Version and address of the server that was reached last; for any thread."""
        self._is_closing = False
        self.on_blocked: Callable[[bool], object] = lambda _is_blocked: None
        io.add(self)

    def open(self) -> None:
        """Connect to the next node."""
        if self._is_closing:
            return
        self._node = node = self._nodes[self._attempts % len(self._nodes)]
        self._attempts += 1
        self._epoch += 1
        epoch = self._epoch
        try:
            self._connection = Connection(
                parameters(node, self._name),
                on_open_callback=lambda _connection: self._opened(epoch),
                on_open_error_callback=lambda _connection, error: self._failed(epoch, error),
                on_close_callback=lambda _connection, error: self._failed(epoch, error),
                custom_ioloop=self._io.loop,
            )
        except (AMQPError, OSError, ValueError) as error:
            self._io.post(partial(self._failed, epoch, error))
            return
        for watch, is_blocked in (
            (self._connection.add_on_connection_blocked_callback, True),
            (self._connection.add_on_connection_unblocked_callback, False),
        ):
            watch(partial(self._blocked, epoch, is_blocked))

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    @property
    def is_closed(self) -> bool:
        return self._connection is None or self._connection.is_closed

    def cork(self, is_corked: bool) -> None:
        """Send what is written meanwhile in one piece."""
        if self._connection is not None:
            self._connection.cork(is_corked)

    def channel(self, on_open: Callable[[Channel], object]) -> Channel:
        """Open a channel; raises one of pika's errors where the connection is not open."""
        if self._connection is None:
            raise ConnectionError("not connected")
        return self._connection.channel(on_open_callback=on_open)

    def reset(self, error: BaseException) -> None:
        """Leave a connection whose state nobody knows, and open another."""
        connection = self._connection
        self._failed(self._epoch, error)
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def close(self) -> None:
        """Close the connection for good."""
        self._is_closing = True
        connection = self._connection
        if connection is not None and not (connection.is_closing or connection.is_closed):
            with suppress(AMQPError):
                connection.close()

    def _opened(self, epoch: int) -> None:
        if epoch == self._epoch and self._connection is not None:
            properties: Any = self._connection.server_properties
            self.server = f"{properties.get('version', '')} at {self._node.address}"
            self._lost_at = None
            self._on_open()

    def _failed(self, epoch: int, error: BaseException) -> None:
        if epoch != self._epoch or self._is_closing:
            return
        self._epoch += 1
        self._connection = None
        now = monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        self._on_lost(error)
        pause = min(MAX_PAUSE_SECONDS, max(MIN_PAUSE_SECONDS, (now - self._lost_at) / 4))
        jitter = random.uniform(0.5, 1.0)  # noqa: S311
        has_tried_all = self._attempts % len(self._nodes) == 0
        self._io.later(pause * jitter if has_tried_all else 0.0, self.open)

    def _blocked(self, epoch: int, is_blocked: bool, *_frames: object) -> None:
        if epoch == self._epoch:
            self.on_blocked(is_blocked)
