"""The queues of a world, on SQS or on RabbitMQ: made, filled, counted and read as anybody may."""

import contextlib
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import boto3
import pika
from botocore.exceptions import ClientError

from product_consumer.queue_addresses import StreamName
from product_consumer.queues.opening import set_up_queue
from product_consumer.settings import read_settings
from tests.faults.harness.toxiproxy import Proxy
from tests.support.rabbitmq import RabbitClient
from tests.support.rabbitmq_node import Counts, RabbitServer

MAX_RECEIVES = 12
POLL_SECONDS = 1
_NOTHING = Counts(0, 0)

Letters = list[dict[str, Any]]
"""Rejected messages: ``body`` and their attributes."""


class Queues(Protocol):
    """A server with queues. A queue is named by what ``create`` returned for it."""

    url: str
    """Of the server, for a proxy before it."""
    deliveries_of_an_outage: int
    """How often a message at most counts as delivered while a worker waits for a dependency."""

    def create(self, name: str) -> tuple[str, str]:
        """Make a queue and its dead-letter queue."""
        ...

    def send(self, queue: str, bodies: Sequence[str]) -> list[str]:
        """Send messages in this order; return their ids."""
        ...

    def left_in(self, queue: str) -> int:
        """Count the messages of a queue: visible, hidden and delayed ones."""
        ...

    def hidden_in(self, queue: str) -> int:
        """Count the messages that were received, and neither settled nor visible again."""
        ...

    def letters_in(self, dead_letter_queue: str) -> Letters:
        """Look at every rejected message, and take none away."""
        ...

    def end_leases(self, queue: str, receipts: Iterable[str]) -> None:
        """Make the messages of dead workers visible again, as the end of their leases would."""
        ...

    def settings(self, proxy: Proxy) -> Mapping[str, str]:
        """Return what a worker must know of the server, which it reaches through the proxy."""
        ...

    def address(self, proxy: Proxy, queue: str) -> str:
        """Return the value of a setting that names a queue."""
        ...

    def dead_letter_address(self, proxy: Proxy, queue: str) -> str:
        """Return the value of a setting that names a dead-letter queue."""
        ...

    def impatient(self, address: str) -> str:
        """Return an address with which a worker that is frozen soon loses what it holds."""
        ...

    def close(self) -> None: ...


def queues_on(server: RabbitServer | str) -> Queues:
    """Return the queues of a RabbitMQ, or of the server with this URL."""
    return RabbitQueues(server) if isinstance(server, RabbitServer) else SqsQueues(server)


class SqsQueues:
    """Queues on a server that speaks the SQS API."""

    deliveries_of_an_outage = 0

    def __init__(self, url: str) -> None:
        self.url = url
        self._sqs: Any = boto3.client(
            "sqs",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def create(self, name: str) -> tuple[str, str]:
        dead = self._sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        policy = {
            "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
            "maxReceiveCount": str(MAX_RECEIVES),
        }
        queue = self._sqs.create_queue(
            QueueName=name, Attributes={"RedrivePolicy": json.dumps(policy)}
        )
        return queue["QueueUrl"], dead

    def send(self, queue: str, bodies: Sequence[str]) -> list[str]:
        ids: list[str] = []
        for start in range(0, len(bodies), 10):
            ten = bodies[start : start + 10]
            entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(ten)]
            reply = self._sqs.send_message_batch(QueueUrl=queue, Entries=entries)
            sent = {success["Id"]: success["MessageId"] for success in reply["Successful"]}
            ids += [sent[entry["Id"]] for entry in entries]
        return ids

    def left_in(self, queue: str) -> int:
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(self._counts(queue)[name] for name in names)

    def hidden_in(self, queue: str) -> int:
        return self._counts(queue)["ApproximateNumberOfMessagesNotVisible"]

    def letters_in(self, dead_letter_queue: str) -> Letters:
        letters: Letters = []
        while True:
            reply = self._sqs.receive_message(
                QueueUrl=dead_letter_queue,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                VisibilityTimeout=60,
            )
            if not reply.get("Messages"):
                return letters
            for message in reply["Messages"]:
                attributes = message.get("MessageAttributes", {})
                values = {name: value["StringValue"] for name, value in attributes.items()}
                letters.append({"body": message["Body"], **values})

    def end_leases(self, queue: str, receipts: Iterable[str]) -> None:
        """A message stays hidden if its worker died before it arrived: nobody has its receipt."""
        # A poll that a dead worker left open would take a message for a whole lease.
        time.sleep(POLL_SECONDS)
        for receipt in receipts:
            with contextlib.suppress(ClientError):
                self._sqs.change_message_visibility(
                    QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0
                )

    def settings(self, proxy: Proxy) -> Mapping[str, str]:
        return {"AWS_ENDPOINT_URL": proxy.in_front_of(self.url)}

    def address(self, proxy: Proxy, queue: str) -> str:
        return proxy.in_front_of(queue)

    def dead_letter_address(self, proxy: Proxy, queue: str) -> str:
        return self.address(proxy, queue)

    def impatient(self, address: str) -> str:
        """Its lease does that."""
        return address

    def close(self) -> None:
        self._sqs.close()

    def _counts(self, queue: str) -> dict[str, int]:
        reply = self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
        return {
            name: int(value)
            for name, value in reply["Attributes"].items()
            if name.startswith("Approximate")
        }


class RabbitQueues:
    """Queues on a RabbitMQ, as ``setup-queues`` makes them."""

    # What lay in the client's buffer was delivered.
    deliveries_of_an_outage = 1

    def __init__(self, server: RabbitServer) -> None:
        self.url = server.url()
        self._server = server
        self._client = RabbitClient(server)

    def create(self, name: str) -> tuple[str, str]:
        queue = self._client.name(name)
        settings = read_settings(None, queue_url=self._server.url(queue))
        set_up_queue(settings, StreamName.PRODUCTS, queue)
        return queue, f"{queue}-dead-letter"

    def send(self, queue: str, bodies: Sequence[str]) -> list[str]:
        ids = [str(uuid.uuid4()) for _ in bodies]
        with self._client.channel() as channel:
            channel.confirm_delivery()
            for body, message_id in zip(bodies, ids, strict=True):
                sent = pika.BasicProperties(
                    delivery_mode=2, message_id=message_id, timestamp=int(time.time())
                )
                channel.basic_publish("", queue, body.encode(), sent, mandatory=True)
        return ids

    def left_in(self, queue: str) -> int:
        counts = self._server.counts()
        return counts.get(queue, _NOTHING).ready + _hidden_in(queue, counts)

    def hidden_in(self, queue: str) -> int:
        return _hidden_in(queue, self._server.counts())

    def letters_in(self, dead_letter_queue: str) -> Letters:
        looked_at = self._client.look_at_all(dead_letter_queue)
        return [{"body": got.body.decode(), **got.headers} for got in looked_at]

    def end_leases(self, queue: str, receipts: Iterable[str]) -> None:
        """Nothing to do: the server gives back what a dead worker held."""

    def settings(self, proxy: Proxy) -> Mapping[str, str]:
        return {"AWS_ENDPOINT_URL": ""}

    def address(self, proxy: Proxy, queue: str) -> str:
        return proxy.in_front_of(self._server.url(queue))

    def dead_letter_address(self, proxy: Proxy, queue: str) -> str:
        return queue

    def impatient(self, address: str) -> str:
        return f"{address}&heartbeat=2"

    def close(self) -> None:
        self._client.close()


def _hidden_in(queue: str, counts: Mapping[str, Counts]) -> int:
    retries = [counts[name] for name in counts if name.startswith(f"{queue}-retry-")]
    delayed = sum(retry.ready + retry.unacknowledged for retry in retries)
    return counts.get(queue, _NOTHING).unacknowledged + delayed
