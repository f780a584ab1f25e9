"""The producer of one queue, on the demo's own SQS server."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import boto3
import pytest

from product_consumer.demo.feed import MAX_WAITING, Counts, Feed
from product_consumer.demo.servers import SqsServer
from product_consumer.queues.base import QueueUrls
from product_consumer.queues.sqs.admin import set_up_queues

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@pytest.fixture(scope="module")
def client() -> "Iterator[SQSClient]":
    server = SqsServer()
    client = boto3.client(
        "sqs",
        endpoint_url=server.start(),
        region_name="us-east-1",
        aws_access_key_id="demo",
        aws_secret_access_key="demo",
    )
    yield client
    client.close()
    server.stop()


@pytest.fixture
def urls(client: "SQSClient", request: pytest.FixtureRequest) -> QueueUrls:
    name = f"queue-{abs(hash(request.node.name))}"
    return set_up_queues(client, name, visibility_timeout_seconds=60)


def receive(client: "SQSClient", urls: QueueUrls) -> list[str]:
    """Take up to ten messages; return their receipts."""
    reply = client.receive_message(QueueUrl=urls.queue_url, MaxNumberOfMessages=10)
    return [message["ReceiptHandle"] for message in reply.get("Messages", [])]


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_counts_what_waits_is_held_and_is_settled(client: "SQSClient", urls: QueueUrls) -> None:
    feed = Feed(client, urls, [f"body {number}" for number in range(25)])
    assert feed.counts() == Counts(total=25, in_flight=0, done=0)

    feed.publish(threading.Event())
    receipts = receive(client, urls)
    for receipt in receipts[:4]:
        client.delete_message(QueueUrl=urls.queue_url, ReceiptHandle=receipt)

    assert feed.counts() == Counts(total=25, in_flight=len(receipts) - 4, done=4)


def test_no_more_is_sent_while_much_waits(client: "SQSClient", urls: QueueUrls) -> None:
    feed, stopping = Feed(client, urls, ["body"] * 100), threading.Event()
    publishing = threading.Thread(target=feed.publish, args=(stopping,))
    publishing.start()

    def waiting() -> int:
        reply = client.get_queue_attributes(QueueUrl=urls.queue_url, AttributeNames=["All"])
        return int(reply["Attributes"]["ApproximateNumberOfMessages"])

    wait_until(lambda: waiting() > MAX_WAITING)
    publishing.join(0.5)
    assert publishing.is_alive()
    assert waiting() == MAX_WAITING + 10

    assert receive(client, urls)
    wait_until(lambda: waiting() == MAX_WAITING + 10)
    stopping.set()
    publishing.join(10)
    assert not publishing.is_alive()


def test_rejections_are_told_by_reason(client: "SQSClient", urls: QueueUrls) -> None:
    for reason in ["json_invalid"] * 12 + ["missing:price"]:
        client.send_message(
            QueueUrl=urls.dead_letter_queue_url,
            MessageBody="body",
            MessageAttributes={"reason": {"DataType": "String", "StringValue": reason}},
        )
    client.send_message(QueueUrl=urls.dead_letter_queue_url, MessageBody="moved by the policy")
    feed = Feed(client, urls, [])

    assert feed.take_rejections() == {
        "json_invalid": 12,
        "missing:price": 1,
        "received_too_often": 1,
    }
    assert not feed.take_rejections()
