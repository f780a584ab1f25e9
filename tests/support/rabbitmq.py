"""A plain client of RabbitMQ for tests: what other people's producers and readers do, with pika."""

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from tests.support.rabbitmq_node import RabbitServer

QUORUM = {"x-queue-type": "quorum"}
OPEN_SECONDS = 10.0
BELONGING = ("", "-dead-letter", *(f"-retry-{2**power}" for power in range(12)))


@dataclass(frozen=True, slots=True)
class Got:
    """A message that was taken from a queue."""

    body: bytes
    properties: pika.BasicProperties
    redelivered: bool

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.properties.headers or {}


class RabbitClient:
    """One connection, which is opened again after a fault; for one thread."""

    def __init__(self, server: RabbitServer) -> None:
        self.server = server
        self._connection: BlockingConnection | None = None
        self._names: list[str] = []

    def name(self, stem: str = "queue") -> str:
        """A queue name that nobody else uses; the queue and those that belong to it are deleted
        at the end.
        """
        name = f"{stem}-{uuid.uuid4().hex[:12]}"
        self._names += [name + suffix for suffix in BELONGING]
        return name

    def declare(self, queue: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Make a durable queue, classic unless the arguments say otherwise; return its name."""
        with self.channel() as channel:
            channel.queue_declare(queue, durable=True, arguments=dict(arguments or {}))
        return queue

    def new_queue(self, stem: str = "queue", arguments: Mapping[str, Any] | None = None) -> str:
        """Make a durable queue with a name of its own, and return that name."""
        return self.declare(self.name(stem), arguments)

    def publish(self, queue: str, *bodies: bytes | str, **properties: Any) -> None:
        """Send persistent messages, each confirmed; raises pika's error where no queue takes it."""
        sent = pika.BasicProperties(**({"delivery_mode": 2} | properties))
        with self.channel() as channel:
            channel.confirm_delivery()
            for body in bodies:
                data = body.encode() if isinstance(body, str) else body
                channel.basic_publish("", queue, data, sent, mandatory=True)

    def publish_many(
        self, queue: str, bodies: list[bytes], seconds: float = 30.0, **properties: Any
    ) -> None:
        """Send persistent messages without confirmations, then wait until the queue has them."""
        sent = pika.BasicProperties(**({"delivery_mode": 2} | properties))
        before = self.count(queue)
        with self.channel() as channel:
            for body in bodies:
                channel.basic_publish("", queue, body, sent)
        self.wait_for(queue, before + len(bodies), seconds)

    def count(self, queue: str) -> int:
        """The messages that are ready; those that somebody holds are not counted."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def exists(self, queue: str) -> bool:
        try:
            self.count(queue)
        except ChannelClosedByBroker:
            return False
        return True

    def wait_for(self, queue: str, count: int, seconds: float = 10.0) -> None:
        """Wait until so many messages are ready; fail if there are not."""
        deadline = time.monotonic() + seconds
        while (ready := self.count(queue)) != count:
            assert time.monotonic() < deadline, f"{ready} ready in {queue}, not {count}"
            time.sleep(0.02)

    def get(self, queue: str) -> Got | None:
        """Take one message for good; None if none is ready."""
        with self.channel() as channel:
            return _get(channel, queue)

    def take_all(self, queue: str) -> list[Got]:
        """Take every message that is ready for good."""
        with self.channel() as channel:
            taken = []
            while (got := _get(channel, queue)) is not None:
                taken.append(got)
            return taken

    def look_at_all(self, queue: str) -> list[Got]:
        """Return every message that is ready, and give all of them back."""
        with self.channel() as channel:
            seen = []
            while (got := _get(channel, queue, is_settled=False)) is not None:
                seen.append(got)
            return seen

    def purge(self, queue: str) -> None:
        with self.channel() as channel:
            channel.queue_purge(queue)

    def delete(self, *queues: str) -> None:
        """Delete queues; one that is missing is no error."""
        with self.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)

    @contextlib.contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """A channel of its own, for what the other methods do not do."""
        channel = self._opened().channel()
        try:
            yield channel
        finally:
            with contextlib.suppress(AMQPError):
                channel.close()

    def close(self) -> None:
        """Delete the queues of ``name`` and close the connection."""
        with contextlib.suppress(AMQPError, OSError):
            if self._names:
                self.delete(*self._names)
        if self._connection is not None and self._connection.is_open:
            with contextlib.suppress(AMQPError):
                self._connection.close()

    def _opened(self) -> BlockingConnection:
        if self._connection is not None and self._connection.is_open:
            with contextlib.suppress(AMQPError):
                # Notices that the server has closed it.
                self._connection.process_data_events(0)
        if self._connection is None or not self._connection.is_open:
            self._connection = BlockingConnection(_parameters(self.server))
        return self._connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def makes_queues(server: RabbitServer) -> bool:
    """Return whether a server that takes connections can make a quorum queue, too."""
    try:
        with RabbitClient(server) as client:
            client.new_queue("healthy", QUORUM)
    except AMQPError:
        return False
    return True


def _parameters(server: RabbitServer) -> pika.URLParameters:
    parameters = pika.URLParameters(server.url())
    # A test that is busy elsewhere does not serve its connection.
    parameters.heartbeat = 0
    parameters.socket_timeout = OPEN_SECONDS
    parameters.blocked_connection_timeout = OPEN_SECONDS
    return parameters


def _get(channel: BlockingChannel, queue: str, *, is_settled: bool = True) -> Got | None:
    method, properties, body = channel.basic_get(queue, auto_ack=is_settled)
    if method is None or properties is None or body is None:
        return None
    return Got(body, properties, bool(method.redelivered))
