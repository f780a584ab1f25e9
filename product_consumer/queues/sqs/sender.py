"""Sends messages to SQS; each is confirmed."""

from collections.abc import Iterable, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any

from product_consumer.errors import QueueUnavailable
from product_consumer.queues.base import NOT_TEXT, Outgoing, size_bytes
from product_consumer.queues.sqs.batch_calls import (
    MAX_ENTRIES,
    Entry,
    call_batch,
    sendable_batches,
)
from product_consumer.queues.sqs.client import sqs_error_code, sqs_errors
from product_consumer.queues.sqs.conversion import body_md5, queue_name, text_attributes
from product_consumer.queues.sqs.error_codes import CONTENT_REFUSED

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

NOT_CONFIRMED = "NotConfirmed"
"""Error code of a message that the queue accepted with another body than was sent."""


class SqsSender:
    """A sender to a queue of SQS; implements ``Sender``. ``close`` closes the client too."""

    batch_size = MAX_ENTRIES

    def __init__(self, client: "SQSClient", queue_url: str) -> None:
        self.queue_name = queue_name(queue_url)
        self._client = client
        self._queue_url = queue_url

    def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
        return send_messages(self._client, self._queue_url, messages)

    def publish(self, bodies: Iterable[str]) -> int:
        return publish(self._client, self._queue_url, bodies)

    def close(self) -> None:
        self._client.close()


def send_messages(
    client: "SQSClient", queue_url: str, messages: Sequence[Outgoing]
) -> dict[int, str]:
    """Send messages, up to ten per call; return the error code of each failure, by its position.

    A message fails alone when the queue refuses its content, or when it is not text (``NOT_TEXT``).
    Raises ``QueueUnavailable`` when a call fails for another reason; some messages may have been
    sent then.
    """
    entries: list[Entry] = [
        {
            "Id": str(position),
            "MessageBody": message.body,
            "MessageAttributes": text_attributes(message.attributes),
        }
        for position, message in enumerate(messages)
    ]
    failed = {entry["Id"]: NOT_TEXT for entry in entries if isinstance(entry["MessageBody"], bytes)}
    sendable = [entry for entry in entries if entry["Id"] not in failed]
    for batch in sendable_batches(sendable, _entry_bytes):
        failed |= _send(client, queue_url, batch)
    return {int(entry_id): code for entry_id, code in failed.items()}


def publish(client: "SQSClient", queue_url: str, bodies: Iterable[str]) -> int:
    """Send messages, ten per call or as many as fit its size limit; return how many were sent.

    ``bodies`` may be a generator: one batch is held at a time. Raises ``QueueUnavailable`` at the
    first batch that was not sent in full after retries; its text says how many were sent before.
    """

    def send(entries: Sequence[Any]) -> Any:
        return client.send_message_batch(QueueUrl=queue_url, Entries=entries)

    sent = 0
    for batch in sendable_batches(bodies, size_bytes):
        entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(batch)]
        with sqs_errors(f"publishing, after {sent} messages were sent"):
            failed = call_batch(send, entries, closing=Event())
        sent += len(batch) - len(failed)
        if failed:
            codes = ", ".join(sorted(set(failed.values())))
            detail = f"{len(failed)} of {len(batch)} messages were not sent ({codes}), {sent} were"
            raise QueueUnavailable("SQS", detail)
    return sent


def _send(client: "SQSClient", queue_url: str, entries: Sequence[Entry]) -> dict[str, str]:
    def send(entries: Sequence[Any]) -> Any:
        response = client.send_message_batch(QueueUrl=queue_url, Entries=entries)
        return _without_unconfirmed(response, entries)

    try:
        with sqs_errors("sending"):
            final_codes = {NOT_CONFIRMED, *CONTENT_REFUSED}
            return call_batch(send, entries, Event(), final_codes)
    except QueueUnavailable as error:
        code = sqs_error_code(error.__cause__)
        if code not in CONTENT_REFUSED:
            raise
    # On some servers an entry's content fails that entry, on others the whole call.
    if len(entries) == 1:
        return {entries[0]["Id"]: code}
    failed: dict[str, str] = {}
    for entry in entries:
        failed |= _send(client, queue_url, [entry])
    return failed


def _without_unconfirmed(response: Any, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the response, with each success whose body has another digest as a failure."""
    expected = {entry["Id"]: body_md5(entry["MessageBody"]) for entry in entries}
    successful, failed = [], list(response.get("Failed", []))
    for success in response.get("Successful", []):
        if success.get("MD5OfMessageBody") == expected.get(success["Id"]):
            successful.append(success)
        else:
            failed.append({"Id": success["Id"], "Code": NOT_CONFIRMED})
    return {"Successful": successful, "Failed": failed}


def _entry_bytes(entry: Entry) -> int:
    """Return the size that SQS limits: the body, and each attribute's name, type and value."""
    attributes = entry["MessageAttributes"]
    return size_bytes(entry["MessageBody"]) + sum(
        size_bytes(name + value["DataType"] + value["StringValue"])
        for name, value in attributes.items()
    )
