"""A queue on a RabbitMQ that tests break: the worker's side of it, and the view from outside."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queue_addresses import StreamName
from product_consumer.queues.base import MessageQueue
from product_consumer.queues.opening import open_queue, set_up_queue
from product_consumer.settings import Settings, read_settings
from tests.support.rabbitmq import Got, RabbitClient
from tests.support.rabbitmq_node import Counts, RabbitServer

LEASE_SECONDS = 60
EMPTY_LOOKS = 5
NOTHING, UNKNOWN = Counts(0, 0), Counts(-1, -1)
REJECTED = Rejected(stage="validate", reason="json_invalid", detail="Expecting value: line 1")
DEAD_LETTER_HEADERS = {
    "reason",
    "stage",
    "detail",
    "message_id",
    "original_version",
    "first_sent",
    "receive_count",
    "source_queue",
}


class Bench:
    """A queue of products with its dead-letter queue and its retry queues, made for one test."""

    def __init__(self, server: RabbitServer, data_dir: Path) -> None:
        self.server = server
        self.client = RabbitClient(server)
        self.name = self.client.name("bench")
        self.dead = f"{self.name}-dead-letter"
        self.data_dir = data_dir
        self._opened: list[MessageQueue] = []

    def settings(
        self, port: int | None = None, login: str | None = None, query: str = "", **changes: Any
    ) -> Settings:
        url = self.server.url(self.name, port=port, login=login) + query
        values = {
            "queue_url": url,
            "visibility_timeout_seconds": LEASE_SECONDS,
            "data_dir": self.data_dir,
        }
        return read_settings(None, **(values | changes))

    def set_up(self, **limits: int) -> None:
        """Make every queue, as ``setup-queues`` does."""
        set_up_queue(self.settings(), StreamName.PRODUCTS, self.name, **limits)

    def set_up_classic(self) -> None:
        """Make the queue as somebody else's producer does, and a dead-letter queue."""
        self.client.declare(self.name)
        self.client.declare(self.dead)

    def open(
        self,
        lease_seconds: float = LEASE_SECONDS,
        *,
        port: int | None = None,
        login: str | None = None,
        query: str = "",
    ) -> MessageQueue:
        """A worker's queue; ``port`` of a proxy, ``query`` such as ``&heartbeat=2``."""
        # Shorter than a setting may be.
        lease = {"visibility_timeout_seconds": lease_seconds}
        settings = self.settings(port, login, query).model_copy(update=lease)
        queue = open_queue(settings, StreamName.PRODUCTS)
        self._opened.append(queue)
        return queue

    def send(self, *bodies: str | bytes, **properties: Any) -> None:
        """Publish as a producer does; without an id of its own a message has the body's."""
        self.client.publish(self.name, *bodies, **({"timestamp": int(time.time())} | properties))

    def dead_letters(self) -> list[Got]:
        """Take what is in the dead-letter queue."""
        return self.client.take_all(self.dead)

    def counts(self, queue: str | None = None) -> Counts:
        return self.server.counts().get(queue or self.name, UNKNOWN)

    def wait_until_empty(self, seconds: float = 20.0) -> None:
        """Wait until the queue holds nothing, neither ready nor in anybody's hands, for a while:
        the counts are a little late.
        """
        looks: list[bool] = []

        def is_empty_for_a_while() -> bool:
            looks.append(self.counts() == NOTHING and self.client.count(self.name) == 0)
            time.sleep(0.1)
            return all(looks[-EMPTY_LOOKS:]) and len(looks) >= EMPTY_LOOKS

        wait_for(is_empty_for_a_while, seconds)

    def close(self) -> None:
        for queue in self._opened:
            queue.close()
        self.client.close()


def receive(queue: MessageQueue, count: int = 1, within_seconds: float = 20.0) -> list[Message]:
    """Receive so many messages, as a consumer does: an outage is waited out."""
    received: list[Message] = []
    give_up_at = time.monotonic() + within_seconds
    while len(received) < count:
        assert time.monotonic() < give_up_at, f"{len(received)} of {count} came"
        with contextlib.suppress(QueueUnavailable):
            received += queue.receive(min(10, count - len(received)), 1)
            continue
        time.sleep(0.1)
    return received


def reject(queue: MessageQueue, message: Message) -> None:
    """Reject a message as a worker does."""
    queue.copy_rejected(message, REJECTED)
    queue.acknowledge([message])


def reject_at_last(queue: MessageQueue, message: Message) -> None:
    """Reject a message as soon as copies can be published again."""

    def is_rejected() -> bool:
        with contextlib.suppress(QueueUnavailable):
            reject(queue, message)
            return True
        return False

    wait_for(is_rejected)


def bodies(messages: Sequence[Message]) -> list[str]:
    return sorted(str(message.body) for message in messages)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until the condition holds, and fail if it does not."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.05)
