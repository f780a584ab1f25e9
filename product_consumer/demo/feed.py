"""The producer of one queue of the demo: it sends messages a few at a time and counts the rest.

Progress is read from the queue alone, as an operator would read it. So the worker needs no hook for
the demo.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from product_consumer.queues.base import QueueUrls
from product_consumer.queues.sqs.sender import publish

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

MAX_WAITING = 30
"""More is sent while no more messages than this wait: a backlog slows the demo's server down."""

_BATCH = 10
_POLL_SECONDS = 0.1
_WAITING: "QueueAttributeNameType" = "ApproximateNumberOfMessages"
_IN_FLIGHT: "QueueAttributeNameType" = "ApproximateNumberOfMessagesNotVisible"
_DELAYED: "QueueAttributeNameType" = "ApproximateNumberOfMessagesDelayed"


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of messages of one queue: all that will be sent, those in flight, those settled."""

    total: int
    in_flight: int
    done: int


class Feed:
    """The producer of one queue. Thread-safe; one thread at a time may ``publish``."""

    def __init__(self, client: "SQSClient", urls: QueueUrls, bodies: Sequence[str]) -> None:
        self._client = client
        self._urls = urls
        self._bodies = bodies
        self._sent = 0

    def publish(self, stopping: Event) -> None:
        """Send every message, or those that fit before ``stopping`` is set."""
        for start in range(0, len(self._bodies), _BATCH):
            while self._attributes()[_WAITING] > MAX_WAITING and not stopping.wait(_POLL_SECONDS):
                continue
            if stopping.is_set():
                return
            batch = self._bodies[start : start + _BATCH]
            self._sent += publish(self._client, self._urls.queue_url, batch)

    def counts(self) -> Counts:
        """Ask the queue; a message that moves meanwhile may be counted a moment late."""
        sent = (
            self._sent
        )  # read first: read later, it could count a message that the response lacks
        attributes = self._attributes()
        done = sent - sum(attributes.values())
        return Counts(len(self._bodies), attributes[_IN_FLIGHT], max(0, done))

    def take_rejections(self) -> Counter[str]:
        """Empty the dead-letter queue; return how many messages it held, by reason."""
        reasons: Counter[str] = Counter()
        while True:
            response = self._client.receive_message(
                QueueUrl=self._urls.dead_letter_queue_url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["reason"],
            )
            messages = response.get("Messages", [])
            if not messages:
                return reasons
            for message in messages:
                attributes = message.get("MessageAttributes", {})
                # Without a reason: the redrive policy moved it.
                reason = attributes["reason"]["StringValue"] if "reason" in attributes else None
                reasons[reason or "received_too_often"] += 1
            self._client.delete_message_batch(
                QueueUrl=self._urls.dead_letter_queue_url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages)
                ],
            )

    def _attributes(self) -> dict[str, int]:
        names = [_WAITING, _IN_FLIGHT, _DELAYED]
        response = self._client.get_queue_attributes(
            QueueUrl=self._urls.queue_url, AttributeNames=names
        )
        return {name: int(response["Attributes"][name]) for name in names}
