"""Queues are set up, and messages published, as asked."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.queues.sqs.admin import QueueUrls, publish, set_up_queues
from product_consumer.queues.sqs.queue import sqs_client
from product_consumer.settings import Settings, read_settings

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/000000000000/products"


def settings(**overrides: Any) -> Settings:
    keys = {"sqs_access_key": "key", "sqs_secret_key": "secret", "sqs_queue_url": QUEUE_URL}
    return read_settings(None, **(keys | overrides))


def failed(entry_id: str, code: str, sender_fault: bool = False) -> dict[str, Any]:
    return {"Id": entry_id, "Code": code, "SenderFault": sender_fault}


def answer(successful: str = "", *failures: dict[str, Any]) -> dict[str, Any]:
    return {"Successful": [{"Id": each} for each in successful], "Failed": list(failures)}


@pytest.fixture
def client(elasticmq_url: str) -> Iterator[Any]:
    client = sqs_client(settings(aws_endpoint_url=elasticmq_url))
    yield client
    client.close()


@pytest.fixture
def urls(client: Any) -> QueueUrls:
    name = f"unit-{uuid.uuid4().hex}"
    return set_up_queues(client, name, visibility_timeout_seconds=30)


def attributes_of(client: Any, queue_url: str) -> dict[str, str]:
    reply = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
    return dict(reply["Attributes"])


def test_set_up_creates_a_queue_whose_dead_letters_are_kept_longer(
    client: Any, urls: QueueUrls
) -> None:
    attributes = attributes_of(client, urls.queue_url)
    policy = json.loads(attributes["RedrivePolicy"])

    assert attributes["VisibilityTimeout"] == "30"
    assert int(policy["maxReceiveCount"]) == 12
    assert policy["deadLetterTargetArn"].endswith("-dead-letter")


def test_setting_up_again_changes_the_attributes_and_keeps_the_messages(
    client: Any, urls: QueueUrls
) -> None:
    publish(client, urls.queue_url, ["A"])
    name = urls.queue_url.rpartition("/")[2]

    again = set_up_queues(client, name, visibility_timeout_seconds=45, max_receive_count=20)

    attributes = attributes_of(client, urls.queue_url)
    assert again == urls
    assert attributes["VisibilityTimeout"] == "45"
    assert int(json.loads(attributes["RedrivePolicy"])["maxReceiveCount"]) == 20
    assert attributes["ApproximateNumberOfMessages"] == "1"


@pytest.mark.parametrize("name", ["", "products.fifo", "a b", "x" * 69, "a/b"])
def test_a_name_that_sqs_does_not_allow_is_refused(client: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="queue name"):
        set_up_queues(client, name, visibility_timeout_seconds=30)


def test_everything_a_generator_gives_is_published(client: Any, urls: QueueUrls) -> None:
    sent_count = publish(client, urls.queue_url, (f"message {n}" for n in range(37)))

    assert sent_count == 37
    assert attributes_of(client, urls.queue_url)["ApproximateNumberOfMessages"] == "37"


def test_a_call_stays_under_the_size_limit_of_older_servers() -> None:
    body = "₫" * 30_000
    client = sqs_client(settings())
    server = Stubber(client)
    for batch in ("01", "01", "0"):
        message_answers = [
            {"Id": each, "MessageId": each, "MD5OfMessageBody": ""} for each in batch
        ]
        server.add_response(
            "send_message_batch",
            {"Successful": message_answers, "Failed": []},
            {
                "QueueUrl": QUEUE_URL,
                "Entries": [{"Id": each, "MessageBody": body} for each in batch],
            },
        )

    with server:
        assert publish(client, QUEUE_URL, [body] * 5) == 5
        server.assert_no_pending_responses()
    client.close()


def test_messages_that_were_not_sent_are_counted() -> None:
    client = sqs_client(settings())
    server = Stubber(client)
    successes = [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": ""}]
    server.add_response(
        "send_message_batch",
        {"Successful": successes, "Failed": [failed("1", "InternalError")]},
    )
    for _ in range(3):
        server.add_response("send_message_batch", answer("", failed("1", "InternalError")))

    with server, pytest.raises(QueueUnavailable, match=r"1 of 2 .* not sent \(InternalError\)"):
        publish(client, QUEUE_URL, ["A", "B"])
    client.close()
