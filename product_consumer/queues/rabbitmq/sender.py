"""Sends messages to RabbitMQ; each is confirmed."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Envelope
from product_consumer.queues.base import Outgoing
from product_consumer.queues.rabbitmq import topology
from product_consumer.queues.rabbitmq.amqp.connection import IoThread
from product_consumer.queues.rabbitmq.amqp.errors import (
    at_start,
    unavailable,
    unavailable_on_error,
)
from product_consumer.queues.rabbitmq.amqp.publishing import (
    NotConfirmed,
    Publication,
    Publisher,
)
from product_consumer.queues.rabbitmq.copies import copy_of
from product_consumer.queues.rabbitmq.topology import Declaration
from product_consumer.queues.rabbitmq.url import AmqpUrl

OPENING_SECONDS = 20.0
_ANSWER_SECONDS = 10.0


class RabbitSender:
    """A sender to one queue, or to others on its server; implements ``Sender``. Thread-safe."""

    batch_size = 100

    def __init__(self, url: AmqpUrl, connection_name: str) -> None:
        """Connect; raises what ``amqp.errors.at_start`` makes of a failure."""
        self.queue_name = url.queue
        self._io = IoThread("rabbitmq-io")
        self._publisher = Publisher(self._io, url.nodes, connection_name)
        problem = self._publisher.wait_until_ready(OPENING_SECONDS, len(url.nodes))
        if problem is not None:
            self._io.close()
            raise at_start("connecting", problem, url)

    def send(
        self, messages: Iterable[Outgoing], *, queue_name: str | None = None
    ) -> dict[int, str]:
        """Send any number, persistent; return the error code of each refused one, by position.

        ``queue_name``: another queue of the server. Its code is ``NoRoute`` where there is none.
        """
        name = queue_name or self.queue_name
        try:
            return self._publisher.publish(_publication(name, message) for message in messages)
        except NotConfirmed as error:
            raise unavailable("sending", error) from error

    def publish(self, bodies: Iterable[str]) -> int:
        """Send messages with the time as their timestamp; a missing queue is an error, too."""
        count = 0

        def outgoing() -> Iterator[Outgoing]:
            nonlocal count
            for body in bodies:
                count += 1
                envelope = Envelope(content_type="application/json", timestamp=datetime.now(UTC))
                yield Outgoing(body, {}, envelope)

        codes = self.send(outgoing())
        if codes:
            words = ", ".join(sorted(set(codes.values())))
            sent = count - len(codes)
            problem = f"{len(codes)} of {count} messages were not sent ({words}), {sent} were"
            raise QueueUnavailable("RabbitMQ", problem)
        return count

    def make(self, queues: Iterable[Declaration]) -> list[str]:
        """Make queues that are missing; return their names."""
        with unavailable_on_error("making queues"):
            question = partial(topology.make, self._publisher.link, list(queues))
            names: list[str] = self._io.ask(question, _ANSWER_SECONDS)
            return names

    def delete(self, name: str) -> None:
        """Delete a queue with what is in it; nothing happens where there is none."""
        with unavailable_on_error("deleting a queue"):
            self._io.ask(partial(topology.delete, self._publisher.link, name), _ANSWER_SECONDS)

    def close(self) -> None:
        self._io.close()


def _publication(queue: str, message: Outgoing) -> Publication:
    copy = copy_of(message, message.attributes)
    return Publication(queue, copy.body, copy.properties)
