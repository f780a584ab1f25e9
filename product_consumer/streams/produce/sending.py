"""Sends any number of messages to the queue of a stream, over outages and deleted queues."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from threading import Event
from typing import Protocol, TypeVar

from product_consumer.errors import QueueUnavailable
from product_consumer.pipeline.backoff import Stopped
from product_consumer.queues.base import Outgoing, size_bytes
from product_consumer.queues.rabbitmq.amqp.publishing import NO_ROUTE

ATTEMPTS, PAUSE_SECONDS = 10, 10.0
"""How often a server is tried, and how long after each failure: a broker in a container beside this
program takes that long to start."""
CHUNK_MESSAGES, CHUNK_BYTES = 2000, 32 * 1024 * 1024
"""Most that is sent again after an outage, under the same ids."""
TOO_LARGE = "TooLarge"
"""Code of a message that is larger than the server takes."""

log = logging.getLogger(__name__)

# The server's words, which follow the code 406.
_LARGER_THAN_ALLOWED = "larger than"

T = TypeVar("T")


class Sender(Protocol):
    """The methods of ``RabbitSender`` that are needed here."""

    def send(self, messages: Iterable[Outgoing]) -> dict[int, str]: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Sent:
    """What became of the messages so far."""

    count: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """How many the server refused, by code."""


class StreamSender:
    """A sender to the queue of a stream, which is made where it is missing. For one thread.

    ``open_sender``: connects, and makes the queue; raises ``QueueUnavailable`` where a wait may
    help. ``on_sent``: called with how many more were confirmed, and how many refused.
    """

    def __init__(
        self,
        open_sender: Callable[[], Sender],
        stopping: Event,
        on_sent: Callable[[int, int], None] = lambda _sent, _refused: None,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self.sent = Sent()
        self._open_sender = open_sender
        self._stopping = stopping
        self._on_sent = on_sent
        self._pause_seconds = pause_seconds
        self._sender: Sender | None = None

    def send(self, messages: Iterable[Outgoing]) -> None:
        """Send messages until they end or a stop is asked for; all of them are confirmed then.

        Raises ``QueueUnavailable`` after ``ATTEMPTS`` in a row, and ``Stopped`` for a stop during
        an outage.
        """
        source = iter(messages)
        is_over = False
        while not is_over and not self._stopping.is_set():
            chunk = _Chunk(source, self._stopping)
            self._send(chunk)
            is_over = chunk.is_last

    def connect(self) -> None:
        """Connect, and make the queue; raises as ``send``."""
        self._retrying(self._connected, "Cannot connect")

    def close(self) -> None:
        """Close the connection."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def _send(self, chunk: "_Chunk") -> None:
        """Send a chunk; what a deleted queue did not take goes to the one made after it."""
        refused = self._retrying(lambda: self._send_once(chunk), "Cannot send")
        rest = self._count(chunk.taken, refused)
        for _ in range(ATTEMPTS):
            if not rest:
                return
            log.warning("The queue was deleted; making it again for %d messages", len(rest))
            self.close()
            again = partial(self._send_once, rest)
            rest = self._count(rest, self._retrying(again, "Cannot send"))
        raise QueueUnavailable(
            "RabbitMQ", f"the queue is deleted again and again: {len(rest)} left"
        )

    def _send_once(self, messages: Iterable[Outgoing]) -> dict[int, str]:
        try:
            return self._connected().send(messages)
        except QueueUnavailable as error:
            if _LARGER_THAN_ALLOWED not in error.detail:
                raise
        # It took the channel with it, and what was sent at the same time.
        self.close()
        each = list(messages)
        if len(each) == 1:
            return {0: TOO_LARGE}
        codes = [self._send_once([message]).get(0) for message in each]
        return {position: code for position, code in enumerate(codes) if code is not None}

    def _connected(self) -> Sender:
        self._sender = self._sender or self._open_sender()
        return self._sender

    def _retrying(self, action: Callable[[], T], problem: str) -> T:
        for attempt in count(1):
            try:
                return action()
            except QueueUnavailable as error:
                self.close()
                if attempt == ATTEMPTS:
                    raise
                log.warning(
                    "%s (%d of %d), trying again in %.0f s: %s",
                    *(problem, attempt, ATTEMPTS, self._pause_seconds, error),
                )
            if self._stopping.wait(self._pause_seconds):
                break
        raise Stopped

    def _count(self, messages: Sequence[Outgoing], refused: Mapping[int, str]) -> list[Outgoing]:
        """Count what was sent and what was refused; return what found no queue."""
        codes = [code for code in refused.values() if code != NO_ROUTE]
        for code in codes:
            self.sent.refused[code] = self.sent.refused.get(code, 0) + 1
        count = len(messages) - len(refused)
        self.sent.count += count
        self._on_sent(count, len(codes))
        return [messages[position] for position, code in refused.items() if code == NO_ROUTE]


class _Chunk:
    """Messages that are made while they are sent, and kept until all of them are confirmed.

    A second pass begins with those of the first.
    """

    def __init__(self, source: Iterator[Outgoing], stopping: Event) -> None:
        self.taken: list[Outgoing] = []
        self.is_last = False
        self._source = source
        self._stopping = stopping
        self._bytes = 0

    def __iter__(self) -> Iterator[Outgoing]:
        yield from list(self.taken)
        while not (self._is_full or self.is_last or self._stopping.is_set()):
            message = next(self._source, None)
            if message is None:
                self.is_last = True
                return
            self.taken.append(message)
            self._bytes += size_bytes(message.body)
            yield message

    @property
    def _is_full(self) -> bool:
        return len(self.taken) == CHUNK_MESSAGES or self._bytes >= CHUNK_BYTES
