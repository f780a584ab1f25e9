"""A queue of RabbitMQ, with the rules of a queue that hides what it has delivered."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queues.base import Backlog
from product_consumer.queues.rabbitmq import topology
from product_consumer.queues.rabbitmq.amqp.answers import Answer
from product_consumer.queues.rabbitmq.amqp.connection import IoThread, Link
from product_consumer.queues.rabbitmq.amqp.consuming import ConsumingChannel
from product_consumer.queues.rabbitmq.amqp.deliveries import Deliveries
from product_consumer.queues.rabbitmq.amqp.errors import (
    at_start,
    unavailable,
    unavailable_on_error,
)
from product_consumer.queues.rabbitmq.amqp.publishing import (
    NO_ROUTE,
    UNSENDABLE,
    Publication,
    Publisher,
    nowhere,
)
from product_consumer.queues.rabbitmq.copies import (
    LEFT_OUT,
    RECEIVE_COUNT,
    Copy,
    copy_of,
    to_message,
    with_id,
)
from product_consumer.queues.rabbitmq.management import Management
from product_consumer.queues.rabbitmq.topology import Counts
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.rejections import handed_on, rejection_attributes

log = logging.getLogger(__name__)

OPENING_SECONDS = 20.0
ANSWER_SECONDS = 10.0
MAX_HOLD_SECONDS = 60.0
"""Longest time that a message may wait in hand for another dependency. Given back, it is ready for
another machine at once."""
OTHERS_LAG_SECONDS = 20.0
"""AMQP does not tell what other consumers have in hand: two looks are 10 seconds apart."""
MAX_WAIT_SECONDS = 2.0
"""Longest wait of a receive while the server is there: a stop waits for it, and it costs nothing to
wait again."""
_FIRST_WAIT_SECONDS = 0.5
_MISSING_SECONDS = 5.0
_MAX_DETAIL_CHARACTERS = 600
_MAX_NOTE_CHARACTERS = 400


class RabbitQueue:
    """A queue of RabbitMQ; implements ``MessageQueue``.

    A receipt is valid in the object that gave it, as long as its channel lives. Rejected messages
    go to ``reject_log`` where there is no dead-letter queue.
    """

    max_hold_seconds = MAX_HOLD_SECONDS

    def __init__(
        self,
        url: AmqpUrl,
        *,
        label: str,
        prefetch: int,
        lease_seconds: float,
        reject_log: RejectLog,
        connection_name: str,
        management: Management | None = None,
    ) -> None:
        """Connect in the background; ``wait_until_open`` tells how it went."""
        self.label = label
        self.dead_letter_name: str | None = None
        self._url = url
        self._queue = url.queue
        self._reject_log = reject_log
        self._management = management
        self._deliveries = Deliveries(lease_seconds)
        self._io = IoThread("rabbitmq-io")
        self._consuming = ConsumingChannel(
            self._io, url, connection_name, prefetch, self._deliveries
        )
        self._publisher = Publisher(self._io, url.nodes, f"{connection_name} (publishing)")
        self._has_other_consumers = False
        self._missing_until: dict[str, float] = {}

    @property
    def counts_lag_seconds(self) -> float:
        """How long others may hide messages from ``backlog``; 0 where there are no others."""
        if self._management is not None:
            return self._management.lag_seconds
        return OTHERS_LAG_SECONDS if self._has_other_consumers else 0.0

    def wait_until_open(self) -> None:
        """Wait until the queue can be used; raises what ``amqp.errors.at_start`` makes of it."""
        tries = len(self._url.nodes)
        for part in (self._consuming, self._publisher):
            problem = part.wait_until_ready(OPENING_SECONDS, tries)
            if problem is not None:
                raise at_start("connecting", problem, self._url)

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        ends_at = monotonic() + wait_seconds
        wait: float = min(wait_seconds, MAX_WAIT_SECONDS)
        if self._consuming.problem is not None:
            # The first answer after an outage tells of its end, whether there are messages or not.
            self._consuming.wait_until_ready(wait_seconds)
            wait = 0.0
        if not self._consuming.is_consuming:
            self._io.post(self._consuming.start)
            wait = max(wait, _FIRST_WAIT_SECONDS)
        taken = self._deliveries.take(max_messages, wait)
        if not taken and self._consuming.problem is not None:
            # A short outage is nobody's business.
            problem = self._consuming.wait_until_ready(ends_at - monotonic())
            if problem is not None:
                raise unavailable("receiving", problem)
        now = datetime.now(UTC)
        return [to_message(delivery, now) for delivery in taken]

    def acknowledge(self, messages: Sequence[Message]) -> None:
        live = self._deliveries.settle(message.receipt_handle for message in messages)
        if live:
            self._io.post(partial(self._consuming.acknowledge, live))

    def release(self, messages: Sequence[Message]) -> None:
        live = self._deliveries.settle(message.receipt_handle for message in messages)
        if live:
            self._io.post(partial(self._consuming.release, live))

    def extend(self, messages: Sequence[Message], visibility_seconds: int) -> list[Message]:
        receipts = (message.receipt_handle for message in messages)
        lost = self._deliveries.extend(receipts, visibility_seconds)
        return [message for message in messages if message.receipt_handle in lost]

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        if not self._deliveries.is_held(message.receipt_handle):
            return
        attributes = handed_on(message) | {RECEIVE_COUNT: str(message.receive_count)}
        if note := _left_out(message):
            attributes[LEFT_OUT] = note
        copy = copy_of(_with_id(message), attributes, expiration_ms=round(delay_seconds * 1000))
        name = topology.retry_name_for(self._queue, delay_seconds)
        code = self._publish(name, copy, "delaying")
        if code == NO_ROUTE:
            declaration = topology.retry_queue(self._queue, name)
            self.ask(
                f"making the queue {name}",
                lambda link, answer: topology.make(link, [declaration], answer),
            )
            code = self._publish(name, copy, "delaying")
        if code:
            raise QueueUnavailable(self.label, f"delaying by {name}: {code}")
        self.acknowledge([message])

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        if note := _left_out(message):
            detail = (rejected.detail or rejected.reason)[:_MAX_DETAIL_CHARACTERS]
            rejected = replace(rejected, detail=f"{detail}; {note}")
        attributes = rejection_attributes(message, rejected, source_queue=self._queue)
        name = self.dead_letter_name
        if name is None:
            self._reject_log.append(attributes, message.body)
            return
        copy = copy_of(_with_id(message), attributes)
        code = self._publish(name, copy, "sending to the dead-letter queue")
        if code in (NO_ROUTE, UNSENDABLE):
            log.warning(
                "The dead-letter queue %s did not take message %s (%s): recorded in %s",
                name,
                attributes["message_id"],
                code,
                self._reject_log.path.name,
            )
            self._reject_log.append(attributes, message.body)
        elif code:
            raise QueueUnavailable(self.label, f"sending to the dead-letter queue: {code}")

    def probe(self) -> None:
        if not self._consuming.is_ready or self._consuming.problem is not None:
            problem = self._consuming.problem or ConnectionError("not connected")
            raise unavailable("settling", problem)

    def describe(self) -> str:
        to = self.dead_letter_name or self._reject_log.path
        words = [f"{self._consuming.link.server}, rejected messages go to {to}"]
        if not self._may_publish():
            words.append("this user may not publish: no message can be rejected or delayed")
        if self._management is not None and (
            limit := self._management.consumer_timeout(self._queue)
        ):
            words.append(f"consumer timeout {limit}")
        return "; ".join(words)

    def _may_publish(self) -> bool:
        # The server checks the right before it looks for the queue, so nothing arrives anywhere.
        try:
            codes = self._publisher.publish([nowhere(self._queue)])
        except ConnectionError:
            return False
        return codes == {0: NO_ROUTE}

    def backlog(self) -> Backlog:
        counts = self._count_existing([self._queue, *topology.retry_names(self._queue)])
        main = counts.get(self._queue, Counts(0, 0))
        own = 1 if self._consuming.is_consuming else 0
        self._has_other_consumers = main.consumers > own
        delayed = sum(found.ready for name, found in counts.items() if name != self._queue)
        in_hand = self._deliveries.held_count
        visible = main.ready + self._deliveries.buffered_count
        if self._management is not None:
            in_hand = max(in_hand, self._management.unacknowledged(self._queue))
        return Backlog(visible, in_hand, delayed)

    def count(self, names: Sequence[str]) -> dict[str, Counts]:
        """Return the counts of queues by name, without those that do not exist."""
        counts: dict[str, Counts] = self.ask(
            "counting", lambda link, answer: topology.count(link, names, answer)
        )
        return counts

    def ask(self, action: str, question: Callable[[Link, Answer], object]) -> Any:
        """Return the answer to a question about this server; raises ``QueueUnavailable``."""
        with unavailable_on_error(action):
            return self._io.ask(
                lambda answer: question(self._consuming.link, answer), ANSWER_SECONDS
            )

    def close(self) -> None:
        self._io.close()

    def _count_existing(self, names: Sequence[str]) -> dict[str, Counts]:
        """Return the counts of queues, without those that were missing a moment ago.

        The server logs each look at a queue that is not there.
        """
        now = monotonic()
        known = [name for name in names if self._missing_until.get(name, 0.0) <= now]
        counts = self.count(known)
        missing = set(known) - counts.keys() - {self._queue}
        self._missing_until |= dict.fromkeys(missing, now + _MISSING_SECONDS)
        return counts

    def _publish(self, name: str, copy: Copy, action: str) -> str:
        """Publish a copy and have it confirmed; return an error code, empty for none."""
        try:
            codes = self._publisher.publish([Publication(name, copy.body, copy.properties)])
        except ConnectionError as error:
            raise unavailable(action, error) from error
        return codes.get(0, "")


def _left_out(message: Message) -> str:
    """Return what a copy of a message lacks, and copies before it lacked; empty for nothing."""
    notes = (message.attributes.get(LEFT_OUT, ""), copy_of(message, {}).note)
    return "; ".join(filter(None, notes))[:_MAX_NOTE_CHARACTERS]


def _with_id(message: Message) -> Message:
    return replace(message, envelope=with_id(message.envelope, message.message_id))
