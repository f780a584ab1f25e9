"""Send messages to SQS with a confirmation for each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from product_consumer.errors import QueueUnavailable
from product_consumer.queues.sqs.batch_calls import Entry, call_batch, sendable_batches, text_bytes
from product_consumer.queues.sqs.conversion import body_md5, text_attributes
from product_consumer.queues.sqs.error_codes import CONTENT_REFUSED
from product_consumer.queues.sqs.queue import sqs_client, sqs_error_code, sqs_errors
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

NOT_CONFIRMED = "NotConfirmed"
"""Code of a message that the queue took, but not with the body it was sent."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send."""

    body: str
    attributes: Mapping[str, str]


def send_messages(
    client: "SQSClient", queue_url: str, messages: Sequence[Outgoing]
) -> dict[int, str]:
    """Send messages, up to ten per call; return the code of each that failed, by its position.

    A message that the queue refuses for its content fails alone. Raises ``QueueUnavailable`` when
    a call fails for another reason; then some of the messages may have been sent.
    """
    entries = [
        {
            "Id": str(position),
            "MessageBody": message.body,
            "MessageAttributes": text_attributes(message.attributes),
        }
        for position, message in enumerate(messages)
    ]
    failed: dict[str, str] = {}
    for batch in sendable_batches(entries, _size_bytes):
        failed |= _send(client, queue_url, batch)
    return {int(entry_id): code for entry_id, code in failed.items()}


@contextmanager
def open_sender(
    settings: Settings, queue_url: str
) -> Iterator[Callable[[Sequence[Outgoing]], dict[int, str]]]:
    """Give ``send_messages`` to a queue."""
    client = sqs_client(settings)
    try:
        yield partial(send_messages, client, queue_url)
    finally:
        client.close()


def _send(client: "SQSClient", queue_url: str, entries: Sequence[Entry]) -> dict[str, str]:
    def send(entries: Sequence[Any]) -> Any:
        reply = client.send_message_batch(QueueUrl=queue_url, Entries=entries)
        return _without_unconfirmed(reply, entries)

    try:
        with sqs_errors("sending"):
            final_codes = {NOT_CONFIRMED, *CONTENT_REFUSED}
            return call_batch(send, entries, Event(), final_codes)
    except QueueUnavailable as error:
        code = sqs_error_code(error.__cause__)
        if code not in CONTENT_REFUSED:
            raise
    # Servers differ in whether one entry's content fails that entry or the whole call.
    if len(entries) == 1:
        return {entries[0]["Id"]: code}
    failed: dict[str, str] = {}
    for entry in entries:
        failed |= _send(client, queue_url, [entry])
    return failed


def _without_unconfirmed(reply: Any, entries: Sequence[Entry]) -> dict[str, Any]:
    """The answer, where a success with another body's digest is a failure."""
    expected = {entry["Id"]: body_md5(entry["MessageBody"]) for entry in entries}
    successful, failed = [], list(reply.get("Failed", []))
    for success in reply.get("Successful", []):
        if success.get("MD5OfMessageBody") == expected.get(success["Id"]):
            successful.append(success)
        else:
            failed.append({"Id": success["Id"], "Code": NOT_CONFIRMED})
    return {"Successful": successful, "Failed": failed}


def _size_bytes(entry: Entry) -> int:
    """What counts against the limit: the body, and each attribute's name, type and value."""
    attributes = entry["MessageAttributes"]
    return text_bytes(entry["MessageBody"]) + sum(
        text_bytes(name + value["DataType"] + value["StringValue"])
        for name, value in attributes.items()
    )
