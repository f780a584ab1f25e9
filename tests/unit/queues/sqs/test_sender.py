"""Every message that is sent is confirmed, or its failure is named."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from product_consumer.errors import QueueUnavailable
from product_consumer.queues.base import NOT_TEXT, Outgoing, QueueUrls
from product_consumer.queues.sqs.sender import NOT_CONFIRMED, SqsSender, publish, send_messages
from tests.support.sqs import QUEUE_URL, attributes_of, client_to_stub


@pytest.fixture
def server() -> Iterator[Stubber]:
    client = client_to_stub()
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()
    client.close()


def send(server: Stubber, *bodies: str | bytes) -> dict[int, str]:
    client: Any = server.client
    messages = [Outgoing(body, {"original_version": "1"}) for body in bodies]
    return send_messages(client, QUEUE_URL, messages)


def published(server: Stubber, *bodies: str) -> int:
    client: Any = server.client
    return publish(client, QUEUE_URL, bodies)


def response(bodies: dict[str, str], *failures: tuple[str, str]) -> dict[str, Any]:
    """Successes for these bodies by entry id, and failures as entry id and code."""
    successes = [
        {"Id": entry_id, "MessageId": f"m{entry_id}", "MD5OfMessageBody": md5(body)}
        for entry_id, body in bodies.items()
    ]
    failed = [{"Id": entry_id, "Code": code, "SenderFault": True} for entry_id, code in failures]
    return {"Successful": successes, "Failed": failed}


def md5(body: str) -> str:
    return hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def asked(*entries: tuple[str, str]) -> dict[str, Any]:
    attributes = {"original_version": {"DataType": "String", "StringValue": "1"}}
    return {
        "QueueUrl": QUEUE_URL,
        "Entries": [
            {"Id": entry_id, "MessageBody": body, "MessageAttributes": attributes}
            for entry_id, body in entries
        ],
    }


def test_messages_are_sent_as_they_are_with_their_attributes(server: Stubber) -> None:
    bodies = ("a", " \r\n₫\u2028")
    server.add_response(
        "send_message_batch",
        response({"0": bodies[0], "1": bodies[1]}),
        asked(("0", bodies[0]), ("1", bodies[1])),
    )

    assert send(server, *bodies) == {}


def test_only_the_entries_that_failed_in_passing_are_sent_again(server: Stubber) -> None:
    server.add_response("send_message_batch", response({"0": "a"}, ("1", "InternalError")))
    server.add_response("send_message_batch", response({"1": "b"}), asked(("1", "b")))

    assert send(server, "a", "b") == {}


def test_an_entry_refused_for_its_content_fails_at_once_and_alone(server: Stubber) -> None:
    server.add_response(
        "send_message_batch", response({"0": "a", "2": "c"}, ("1", "InvalidMessageContents"))
    )

    assert send(server, "a", "\x01", "c") == {1: "InvalidMessageContents"}


def test_a_call_refused_for_its_content_is_made_for_each_message(server: Stubber) -> None:
    server.add_client_error("send_message_batch", "BatchRequestTooLong")
    server.add_response("send_message_batch", response({"0": "a"}), asked(("0", "a")))
    server.add_client_error("send_message_batch", "InvalidParameterValue")

    assert send(server, "a", "b") == {1: "InvalidParameterValue"}


def test_a_body_that_was_changed_on_the_way_is_not_confirmed(server: Stubber) -> None:
    server.add_response("send_message_batch", response({"0": "a", "1": "something else"}))

    assert send(server, "a", "b") == {1: NOT_CONFIRMED}


def test_a_call_stays_under_the_size_limit_attributes_included(server: Stubber) -> None:
    large = "x" * (262_144 // 2)
    for entry_id in "01":
        server.add_response(
            "send_message_batch", response({entry_id: large}), asked((entry_id, large))
        )

    assert send(server, large, large) == {}


def test_an_outage_is_an_unavailable_queue(server: Stubber) -> None:
    server.add_client_error("send_message_batch", "ServiceUnavailable", http_status_code=503)

    with pytest.raises(QueueUnavailable, match="sending: ServiceUnavailable"):
        send(server, "a")


def test_a_body_that_is_not_text_fails_alone(server: Stubber) -> None:
    server.add_response("send_message_batch", response({"1": "b"}), asked(("1", "b")))

    assert send(server, b"\xff", "b") == {0: NOT_TEXT}


def test_everything_a_generator_gives_is_published(client: Any, urls: QueueUrls) -> None:
    sent_count = publish(client, urls.queue_url, (f"message {n}" for n in range(37)))

    assert sent_count == 37
    assert attributes_of(client, urls.queue_url)["ApproximateNumberOfMessages"] == "37"


def test_publishing_stays_under_the_size_limit_of_older_servers(server: Stubber) -> None:
    body = "₫" * 30_000
    for batch in ("01", "01", "0"):
        server.add_response(
            "send_message_batch",
            response(dict.fromkeys(batch, body)),
            {
                "QueueUrl": QUEUE_URL,
                "Entries": [{"Id": entry_id, "MessageBody": body} for entry_id in batch],
            },
        )

    assert published(server, *[body] * 5) == 5


def test_messages_that_were_not_published_are_counted(server: Stubber) -> None:
    failure = ("1", "InternalError")
    server.add_response("send_message_batch", response({"0": "A"}, failure))
    for _ in range(3):
        server.add_response("send_message_batch", response({}, failure))

    with pytest.raises(QueueUnavailable, match=r"1 of 2 .* not sent \(InternalError\)"):
        published(server, "A", "B")


def test_a_sender_publishes_and_sends_to_the_queue_it_names(client: Any, urls: QueueUrls) -> None:
    sender = SqsSender(client, urls.queue_url)

    assert sender.publish(["a", "b"]) == 2
    assert sender.send([Outgoing("c", {"original_version": "1"})]) == {}
    assert attributes_of(client, urls.queue_url)["ApproximateNumberOfMessages"] == "3"
    assert sender.queue_name == urls.queue_url.rpartition("/")[2]
