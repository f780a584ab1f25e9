"""The queues of a stream on RabbitMQ: their names, their arguments, how they are made.

RabbitMQ delivers no message later by itself. So a message that is retried waits in a queue whose
messages expire into the stream's queue. Expiry happens at the head only: there is a queue for each
magnitude of delay.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from product_consumer.queues.rabbitmq.amqp.answers import Answer, settle
from product_consumer.queues.rabbitmq.amqp.client import Channel
from product_consumer.queues.rabbitmq.amqp.connection import Link
from product_consumer.queues.rabbitmq.amqp.errors import is_missing

DELIVERY_LIMIT = 50
"""Above ``MAX_ATTEMPTS``, and above what a bad night of crashes reaches: everything in a client's
buffer counts as delivered."""
UNREACHABLE_LIMIT = 1_000_000
"""For queues that must never drop a message. Version 3.10 takes -1 for 0, version 4 drops after 20
deliveries where nothing is said."""
LONGEST_RETRY_QUEUE_SECONDS = 2048

_DEAD_LETTER_SUFFIX = "-dead-letter"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A queue to make where it is missing."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of a queue that AMQP tells: messages that are ready, and consumers."""

    ready: int
    consumers: int


def dead_letter_name(queue: str) -> str:
    return queue + _DEAD_LETTER_SUFFIX


def retry_names(queue: str) -> list[str]:
    """Return the names of all retry queues of a queue."""
    exponents = range(LONGEST_RETRY_QUEUE_SECONDS.bit_length())
    return [_retry_name(queue, 2**exponent) for exponent in exponents]


def retry_name_for(queue: str, delay_seconds: float) -> str:
    """Return the retry queue for a delay: the largest power of two that is not longer."""
    seconds = min(max(int(delay_seconds), 1), LONGEST_RETRY_QUEUE_SECONDS)
    return _retry_name(queue, 2 ** (seconds.bit_length() - 1))


def main_queue(queue: str, delivery_limit: int = DELIVERY_LIMIT) -> Declaration:
    """Return a queue that moves a message to its dead-letter queue after too many deliveries."""
    limit = {"x-delivery-limit": delivery_limit}
    return Declaration(queue, _leading_to(dead_letter_name(queue)) | limit)


def dead_letter_queue(queue: str) -> Declaration:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": UNREACHABLE_LIMIT}
    return Declaration(dead_letter_name(queue), arguments)


def retry_queue(queue: str, name: str) -> Declaration:
    """Return a queue whose messages go to ``queue`` when they expire."""
    limit = {"x-delivery-limit": UNREACHABLE_LIMIT}
    return Declaration(name, _leading_to(queue) | limit)


def stream_queue(name: str) -> Declaration:
    """Return the queue of a data stream, as every producer in the field declares it."""
    return Declaration(name, {})


def count(link: Link, names: Sequence[str], answer: Answer) -> None:
    """Answer with the counts of queues by name, without those that are missing."""
    _Steps(link, [(name, None) for name in names], answer).run()


def make(link: Link, queues: Sequence[Declaration], answer: Answer) -> None:
    """Make queues that are missing; answer with the names of those made. Existing ones stay."""

    def looked(found: dict[str, Counts]) -> None:
        missing = [queue for queue in queues if queue.name not in found]
        names = [queue.name for queue in missing]
        steps = [(queue.name, queue.arguments) for queue in missing]
        _Steps(link, steps, answer, lambda _made: settle(answer, names)).run()

    _Steps(link, [(queue.name, None) for queue in queues], answer, looked).run()


def delete(link: Link, name: str, answer: Answer) -> None:
    """Delete a queue; answer with nothing, also when there was none."""

    def opened(channel: Channel) -> None:
        channel.queue_delete(name, callback=lambda _frame: _end(channel, answer, None))

    def closed(_channel: Channel, error: BaseException) -> None:
        settle(answer, None, None if is_missing(error) else error)

    link.channel(opened).add_on_close_callback(closed)


def _end(channel: Channel, answer: Answer, result: object) -> None:
    settle(answer, result)
    if channel.is_open:
        channel.close()


def _retry_name(queue: str, seconds: int) -> str:
    return f"{queue}-retry-{seconds}"


def _leading_to(queue: str) -> dict[str, Any]:
    """Return the arguments of a quorum queue whose dead letters reach ``queue``, or stay."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


class _Steps:
    """Declarations one after the other; a refused one closes its channel, so the next needs a new.

    Without arguments a declaration is passive: it looks. For the I/O thread.
    """

    def __init__(
        self,
        link: Link,
        steps: Iterable[tuple[str, Mapping[str, Any] | None]],
        answer: Answer,
        then: Callable[[dict[str, Counts]], object] | None = None,
    ) -> None:
        self._link = link
        self._steps = list(steps)
        self._answer = answer
        self._then = then or (lambda found: settle(answer, found))
        self._found: dict[str, Counts] = {}

    def run(self) -> None:
        if not self._steps:
            self._then(self._found)
            return
        self._link.channel(self._next).add_on_close_callback(self._closed)

    def _next(self, channel: Channel) -> None:
        if not self._steps:
            channel.close()
            self._then(self._found)
            return
        name, arguments = self._steps[0]
        channel.queue_declare(
            name,
            passive=arguments is None,
            durable=True,
            arguments=None if arguments is None else dict(arguments),
            callback=lambda frame: self._done(channel, frame),
        )

    def _done(self, channel: Channel, frame: Any) -> None:
        name, _ = self._steps.pop(0)
        self._found[name] = Counts(
            int(frame.method.message_count), int(frame.method.consumer_count)
        )
        self._next(channel)

    def _closed(self, _channel: Channel, error: BaseException) -> None:
        if not self._steps:
            return
        _, arguments = self._steps[0]
        if arguments is None and is_missing(error):
            self._steps.pop(0)
            try:
                self.run()
            except Exception as lost:
                settle(self._answer, error=lost)
        else:
            settle(self._answer, error=error)
