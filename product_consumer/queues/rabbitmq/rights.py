"""Whether a user may consume a queue: asked without taking a message."""

from product_consumer.queues.rabbitmq.amqp.answers import Answer, settle
from product_consumer.queues.rabbitmq.amqp.client import Channel
from product_consumer.queues.rabbitmq.amqp.connection import Link
from product_consumer.queues.rabbitmq.amqp.errors import at_start, codes_of
from product_consumer.queues.rabbitmq.queue import RabbitQueue
from product_consumer.queues.rabbitmq.url import AmqpUrl

_NO_PRIORITY = "none"
_NO_RIGHT = "403"


def check_right_to_consume(queue: RabbitQueue, url: AmqpUrl) -> None:
    """Raise what ``amqp.errors.at_start`` makes of a missing right; anything else passes.

    A declaration that only looks needs no right. So a consumer is asked for whose priority is no
    number: the server checks the right first, and then refuses the priority.
    """
    error = queue.ask("checking the rights", lambda link, answer: _try(link, url.queue, answer))
    if error is not None:
        raise at_start("consuming", error, url)


def _try(link: Link, queue: str, answer: Answer) -> None:
    def opened(channel: Channel) -> None:
        channel.basic_consume(
            queue,
            lambda *_delivery: None,
            arguments={"x-priority": _NO_PRIORITY},
            callback=lambda _frame: channel.close(),
        )

    def closed(_channel: Channel, error: BaseException) -> None:
        settle(answer, error if _NO_RIGHT in codes_of(error) else None)

    link.channel(opened).add_on_close_callback(closed)
