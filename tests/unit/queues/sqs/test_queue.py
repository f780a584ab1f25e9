"""How the queue treats each response of SQS; the server is a list of responses."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.sqs.queue import MAX_DELAY_SECONDS, SqsQueue
from tests.support.factories import message
from tests.support.sqs import QUEUE_URL, client_to_stub

DEAD_LETTER_URL = "https://sqs.eu-west-1.amazonaws.com/000000000000/products-dead-letter"
REJECTED = Rejected("validate", "json_invalid", "Expecting value")


class Stubbed:
    """An ``SqsQueue`` whose server is a list of expected calls and their responses."""

    def __init__(self, data_dir: Path, dead_letter_queue_url: str | None = DEAD_LETTER_URL) -> None:
        client = client_to_stub()
        self.server = Stubber(client)
        self.log_path = data_dir / "rejected.jsonl"
        self.queue = SqsQueue(
            client, QUEUE_URL, dead_letter_queue_url, RejectLog(self.log_path), 120
        )

    def expect(self, call: str, response: dict[str, Any], **parameters: Any) -> None:
        expected = dict(parameters) if parameters else None
        if expected is not None:
            expected.setdefault("QueueUrl", QUEUE_URL)
        self.server.add_response(call, response, expected)

    def refuse(self, call: str, code: str, text: str = "", status: int = 400) -> None:
        self.server.add_client_error(call, code, text, http_status_code=status)

    def logged(self) -> list[dict[str, str]]:
        if not self.log_path.exists():
            return []
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]


@pytest.fixture
def sqs(tmp_path: Path) -> Iterator[Stubbed]:
    stubbed = Stubbed(tmp_path)
    with stubbed.server:
        yield stubbed
        stubbed.server.assert_no_pending_responses()
    stubbed.queue.close()


def failed(entry_id: str, code: str, sender_fault: bool = False) -> dict[str, Any]:
    return {"Id": entry_id, "Code": code, "SenderFault": sender_fault}


def response(successful: str = "", *failures: dict[str, Any]) -> dict[str, Any]:
    return {"Successful": [{"Id": entry_id} for entry_id in successful], "Failed": list(failures)}


def entries(*handles: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"Id": str(i), "ReceiptHandle": h, **fields} for i, h in enumerate(handles)]


def deliveries(*handles: str) -> list[Message]:
    return [message(receipt_handle=handle) for handle in handles]


def sent(body: str) -> dict[str, Any]:
    digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    return {"MessageId": "copy", "MD5OfMessageBody": digest}


def test_only_the_failed_entries_of_a_call_are_tried_again(sqs: Stubbed) -> None:
    sqs.expect(
        "delete_message_batch",
        response("02", failed("1", "InternalError")),
        Entries=entries("a", "b", "c"),
    )
    sqs.expect(
        "delete_message_batch",
        response("1"),
        Entries=[{"Id": "1", "ReceiptHandle": "b"}],
    )

    sqs.queue.acknowledge(deliveries("a", "b", "c"))


def test_an_entry_that_is_not_deleted_is_an_outage(sqs: Stubbed) -> None:
    for _ in range(4):
        sqs.expect("delete_message_batch", response("", failed("0", "InternalError")))

    with pytest.raises(QueueUnavailable, match="deleting 1 messages: InternalError"):
        sqs.queue.acknowledge(deliveries("a"))


def test_a_queue_that_deletes_nothing_fails_its_probe(sqs: Stubbed) -> None:
    sqs.refuse("delete_message_batch", "AccessDenied", status=403)

    with pytest.raises(ConfigurationError, match="AccessDenied"):
        sqs.queue.probe()


def test_a_queue_that_finds_the_receipt_of_a_probe_invalid_passes_it(sqs: Stubbed) -> None:
    sqs.expect("delete_message_batch", response("", failed("0", "ReceiptHandleIsInvalid")))
    sqs.refuse("change_message_visibility_batch", "ReceiptHandleIsInvalid")

    sqs.queue.probe()


def test_an_entry_that_cannot_be_released_is_told(
    sqs: Stubbed, caplog: pytest.LogCaptureFixture
) -> None:
    [stubborn] = deliveries("a")
    for _ in range(4):
        answer = response("", failed("0", "InternalError"))
        sqs.expect("change_message_visibility_batch", answer)

    sqs.queue.release([stubborn])

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert stubborn.message_id in caplog.text
    assert "InternalError" in caplog.text


def test_an_entry_that_the_response_leaves_out_is_tried_again(sqs: Stubbed) -> None:
    sqs.expect("delete_message_batch", response("0"), Entries=entries("a", "b"))
    sqs.expect("delete_message_batch", response("1"), Entries=entries("a", "b")[1:])

    sqs.queue.acknowledge(deliveries("a", "b"))


@pytest.mark.parametrize(
    "code",
    [
        "ReceiptHandleIsInvalid",
        "InvalidParameterValue",
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
    ],
)
def test_a_stale_receipt_is_lost_in_silence_and_not_tried_again(
    sqs: Stubbed, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    stale, held = deliveries("a", "b")
    sqs.expect("change_message_visibility_batch", response("1", failed("0", code, True)))

    assert sqs.queue.extend([stale, held], 120) == [stale]
    assert caplog.records == []


def test_any_number_of_messages_is_extended_in_calls_of_ten(sqs: Stubbed) -> None:
    held = deliveries(*(f"receipt-{number}" for number in range(23)))
    for ids in ("0123456789", "0123456789", "012"):
        sqs.expect("change_message_visibility_batch", response(ids))

    assert sqs.queue.extend(held, 120) == []


def test_two_deliveries_of_one_message_have_entries_of_their_own(sqs: Stubbed) -> None:
    first = message(message_id="m", receipt_handle="a")
    second = message(message_id="m", receipt_handle="b")
    sqs.expect("delete_message_batch", response("01"), Entries=entries("a", "b"))

    sqs.queue.acknowledge([first, second])


@pytest.mark.parametrize(
    ("delay_seconds", "asked"),
    [(0.2, 1), (30.0, 30), (30.01, 31), (-5.0, 0), (1e9, MAX_DELAY_SECONDS)],
)
def test_a_delay_is_whole_seconds_within_what_sqs_allows(
    sqs: Stubbed, delay_seconds: float, asked: int
) -> None:
    sqs.expect(
        "change_message_visibility_batch",
        response("0"),
        Entries=entries("a", VisibilityTimeout=asked),
    )

    sqs.queue.retry_later(deliveries("a")[0], delay_seconds)


def test_a_refused_call_is_an_unavailable_queue(sqs: Stubbed) -> None:
    sqs.refuse("receive_message", "OverLimit", "too many in flight")

    with pytest.raises(QueueUnavailable, match="receiving: OverLimit: too many in flight"):
        sqs.queue.receive(10, 0)


def test_a_missing_count_is_not_zero(sqs: Stubbed) -> None:
    sqs.server.add_response("get_queue_attributes", {})

    with pytest.raises(QueueUnavailable):
        sqs.queue.backlog()


def test_a_delivery_becomes_a_message(sqs: Stubbed) -> None:
    delivered = {
        "MessageId": "m-1",
        "ReceiptHandle": "r-1",
        "Body": "{}",
        "Attributes": {"SentTimestamp": "1795325146007", "ApproximateReceiveCount": "3"},
        "MessageAttributes": {
            "original_version": {"DataType": "String", "StringValue": "17"},
            "custom": {"DataType": "String.uuid", "StringValue": "x"},
            "number": {"DataType": "Number", "StringValue": "1"},
            "binary": {"DataType": "Binary", "BinaryValue": b"\x00"},
        },
    }
    sqs.expect("receive_message", {"Messages": [delivered]})

    [received] = sqs.queue.receive(10, 0)

    assert (received.message_id, received.receipt_handle, received.body) == ("m-1", "r-1", "{}")
    assert received.receive_count == 3
    assert received.sent_at.isoformat() == "2026-11-22T05:25:46.007000+00:00"
    assert received.attributes == {"original_version": "17", "custom": "x"}


def test_a_receive_asks_for_what_a_message_needs(sqs: Stubbed) -> None:
    sqs.expect(
        "receive_message",
        {},
        MaxNumberOfMessages=10,
        WaitTimeSeconds=20,
        VisibilityTimeout=120,
        MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        # The older name, for servers that know no other.
        AttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        MessageAttributeNames=["All"],
    )

    assert sqs.queue.receive(50, 60) == []


def test_a_copy_of_a_rejected_message_is_confirmed(sqs: Stubbed) -> None:
    rejected = message("{", receipt_handle="a", message_id="m-1")
    sqs.expect(
        "send_message",
        sent("{"),
        QueueUrl=DEAD_LETTER_URL,
        MessageBody="{",
        MessageAttributes=ANY,
    )

    sqs.queue.copy_rejected(rejected, REJECTED)

    assert sqs.logged() == []


def test_a_copy_that_cannot_be_sent_is_an_outage(sqs: Stubbed) -> None:
    sqs.refuse("send_message", "ServiceUnavailable", status=503)

    with pytest.raises(QueueUnavailable):
        sqs.queue.copy_rejected(message(), REJECTED)


def test_a_copy_that_was_changed_on_the_way_is_not_confirmed(sqs: Stubbed) -> None:
    sqs.expect("send_message", sent("something else"))

    with pytest.raises(QueueUnavailable, match="did not confirm"):
        sqs.queue.copy_rejected(message("{"), REJECTED)


@pytest.mark.parametrize("code", ["InvalidParameterValue", "InvalidMessageContents"])
def test_a_copy_refused_with_attributes_goes_without_and_the_log_has_the_reason(
    sqs: Stubbed, code: str
) -> None:
    sqs.refuse("send_message", code, "Message must be shorter than 262144 bytes.")
    sqs.expect(
        "send_message",
        sent("long"),
        QueueUrl=DEAD_LETTER_URL,
        MessageBody="long",
        MessageAttributes={},
    )

    sqs.queue.copy_rejected(message("long"), REJECTED)

    [line] = sqs.logged()
    assert (line["reason"], line["body"]) == ("json_invalid", "long")


def test_a_copy_refused_even_without_attributes_is_in_the_log_alone(sqs: Stubbed) -> None:
    sqs.refuse("send_message", "InvalidMessageContents")
    sqs.refuse("send_message", "InvalidMessageContents")

    sqs.queue.copy_rejected(message("\x01"), REJECTED)

    assert [line["body"] for line in sqs.logged()] == ["\x01"]


def test_without_a_dead_letter_queue_the_log_has_the_whole_copy(tmp_path: Path) -> None:
    sqs = Stubbed(tmp_path, dead_letter_queue_url=None)
    with sqs.server:
        sqs.queue.copy_rejected(message('{"id": '), REJECTED)
    sqs.queue.close()

    [line] = sqs.logged()
    assert line["body"] == '{"id": '
    assert (line["reason"], line["stage"]) == ("json_invalid", "validate")
    assert line["source_queue"] == "products"


def test_a_log_that_cannot_be_written_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the directory should be")
    sqs = Stubbed(tmp_path / "data", dead_letter_queue_url=None)

    with sqs.server, pytest.raises(QueueUnavailable, match="reject log"):
        sqs.queue.copy_rejected(message(), REJECTED)
    sqs.queue.close()
