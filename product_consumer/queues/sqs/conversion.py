"""Converts messages between the fields of SQS and ``Message``."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from product_consumer.models import Message

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef


def delivered_message(delivered: "MessageTypeDef") -> Message:
    """Convert an entry of a ReceiveMessage response; attributes that are not text are left out."""
    system = delivered.get("Attributes", {})
    sent_ms = system.get("SentTimestamp")
    return Message(
        message_id=delivered["MessageId"],
        receipt_handle=delivered["ReceiptHandle"],
        body=delivered.get("Body", ""),
        receive_count=int(system.get("ApproximateReceiveCount", 1)),
        sent_at=datetime.fromtimestamp(int(sent_ms) / 1000, UTC) if sent_ms else datetime.now(UTC),
        attributes={
            name: value["StringValue"]
            for name, value in delivered.get("MessageAttributes", {}).items()
            if value.get("DataType", "").startswith("String") and "StringValue" in value
        },
    )


def text_attributes(attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return the ``MessageAttributes`` of a message to send; no value may be empty."""
    return {
        name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
    }


def body_md5(body: str) -> str:
    """Return the ``MD5OfMessageBody`` of a body that SQS has stored unchanged."""
    return hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def queue_name(queue_url: str) -> str:
    """Return the name of a queue, the last part of its URL."""
    return queue_url.rstrip("/").rpartition("/")[2]
