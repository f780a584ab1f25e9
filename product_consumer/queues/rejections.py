"""The attributes of a rejected message's copy, the same wherever copies wait."""

import re
from datetime import UTC, datetime

from product_consumer.messages.times import to_microseconds
from product_consumer.models import Message
from product_consumer.outcomes import Rejected

ATTRIBUTE_NAMES = (
    "reason",
    "stage",
    "detail",
    "message_id",
    "original_version",
    "first_sent",
    "receive_count",
    "source_queue",
)
"""Of a rejected message's copy."""
MOVED_BECAUSE = "moved_because"
"""Attribute of a message that a queue moved by itself, where the queue says why."""
_MAX_DETAIL_CHARACTERS = 1000
_MAX_CHARACTERS = 256
# What SQS allows in bodies and attributes, the Char production of XML 1.0:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_NOT_ALLOWED = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Microseconds since 1970 of any date that a clock can show; more digits would not fit 64 bits.
_VERSION = re.compile(r"[0-9]{1,18}", re.ASCII)


def rejection_attributes(message: Message, rejected: Rejected, source_queue: str) -> dict[str, str]:
    """Return the attributes of a rejected message's copy: none empty, each short and sendable.

    ``original_version`` (digits: epoch microseconds) and ``first_sent`` (ISO 8601, UTC) survive any
    number of redrives. A queue gives a redriven message a new id and a new sent time, so a message
    that has the two attributes hands them on.
    """
    values = {
        "reason": rejected.reason,
        "stage": rejected.stage,
        "detail": rejected.detail or rejected.reason,
        "message_id": message.message_id,
        **handed_on(message),
        "receive_count": str(message.receive_count),
        "source_queue": source_queue,
    }
    return {name: _sendable(name, value) for name, value in values.items()}


def handed_on(message: Message) -> dict[str, str]:
    """Return ``original_version`` and ``first_sent`` of a message: its own attributes, else made
    of the time it was sent.
    """
    return {"original_version": _original_version(message), "first_sent": _first_sent(message)}


def _original_version(message: Message) -> str:
    carried = message.attributes.get("original_version", "")
    return carried if _VERSION.fullmatch(carried) else str(to_microseconds(message.sent_at))


def _first_sent(message: Message) -> str:
    try:
        first_sent = datetime.fromisoformat(message.attributes.get("first_sent", ""))
        return _iso(first_sent if first_sent.tzinfo else first_sent.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return _iso(message.sent_at)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _sendable(name: str, value: str) -> str:
    length = _MAX_DETAIL_CHARACTERS if name == "detail" else _MAX_CHARACTERS
    return _NOT_ALLOWED.sub("\ufffd", value[:length]) or "unknown"
