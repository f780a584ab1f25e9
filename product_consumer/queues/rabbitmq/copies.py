"""Messages as RabbitMQ delivers them, and the copies that a worker publishes of them.

Properties and headers may be of any type and any size: whoever publishes writes them. A copy never
inherits what would harm it, and it fits into one frame.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from product_consumer.models import NO_ENVELOPE, Envelope, Message
from product_consumer.queues.base import Outgoing
from product_consumer.queues.rabbitmq.amqp.client import Properties
from product_consumer.queues.rabbitmq.amqp.deliveries import Delivery
from product_consumer.queues.rabbitmq.topology import UNREACHABLE_LIMIT

MAX_ID_CHARACTERS = 200
MAX_SHORT_BYTES = 255
"""Of a property: a short string of AMQP."""
MAX_HEADER_BYTES = 16_384
"""Of all headers that a copy inherits. All properties of a message must fit into one frame of
131,064 bytes: the server ends the connection for more, and a producer may have filled it."""
RECEIVE_COUNT = "receive_count"
FIRST_SENT = "first_sent"
LEFT_OUT = "left_out"
"""Header of a copy that waits for its retry: what the message had and the copy has not."""

_PERSISTENT: Final = 2
_MAX_COUNT = 999_999_999
_RETRY_QUEUE = re.compile(r"-retry-[0-9]+$", re.ASCII)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 10**11
_MAX_DEPTH = 8
_INT64 = range(-(2**63), 2**63)
# They would send a copy elsewhere, let it expire, or have it taken for a cycle and dropped.
_NEVER_COPIED = {"CC", "BCC"}
_OF_THE_SERVER = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-")
_TEXT_PROPERTIES = {
    "message_id": "message_id",
    "content_type": "content_type",
    "content_encoding": "content_encoding",
    "correlation_id": "correlation_id",
    "reply_to": "reply_to",
    "type": "kind",
    "app_id": "app_id",
}
"""Property of AMQP -> field of an envelope."""


def to_message(delivery: Delivery, now: datetime) -> Message:
    """Return a delivery as a message; never fails, whatever its properties are."""
    properties = delivery.properties
    headers = _headers(properties)
    envelope = _envelope(properties, headers)
    texts = {name: value for name, value in headers.items() if isinstance(value, str) and value}
    sent_at = _sent_at(properties, headers)
    return Message(
        message_id=_message_id(envelope, delivery.body),
        receipt_handle=delivery.receipt,
        body=_text_or_bytes(delivery.body),
        receive_count=_receive_count(headers, is_redelivered=delivery.is_redelivered),
        sent_at=sent_at or now,
        attributes=texts,
        envelope=envelope,
        is_sent_time_known=sent_at is not None or FIRST_SENT in texts,
    )


@dataclass(slots=True, eq=False)
class Copy:
    """A message to publish, and the names of what was left out."""

    body: bytes
    properties: Properties
    left_out: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """Names what was left out, for the detail of a rejection; else empty."""
        return f"left out: {', '.join(self.left_out)}" if self.left_out else ""


def copy_of(
    message: Message | Outgoing,
    attributes: Mapping[str, str],
    *,
    expiration_ms: int | None = None,
) -> Copy:
    """Return a persistent copy of a message with ``attributes`` as headers beside its own.

    ``expiration_ms``: after that time the copy leaves the queue that it is published to.
    """
    envelope = message.envelope
    headers, unsendable = _inherited(envelope.headers) if envelope.headers else ({}, [])
    left_out = [*envelope.not_copied, *unsendable]
    said = {name: getattr(envelope, field) for name, field in _TEXT_PROPERTIES.items()}
    texts = {name: value for name, value in said.items() if value}
    for name, value in texts.items():
        if not ((value.isascii() and len(value) <= MAX_SHORT_BYTES) or _is_short(value)):
            left_out.append(name)
            texts[name] = None
    properties = Properties(
        **texts,
        headers={**headers, **attributes},
        timestamp=_seconds(envelope.timestamp),
        priority=envelope.priority,
        expiration=None if expiration_ms is None else str(expiration_ms),
        delivery_mode=_PERSISTENT,
    )
    body = message.body
    sent = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    return Copy(sent, properties, tuple(left_out))


def with_id(envelope: Envelope, message_id: str) -> Envelope:
    """Return an envelope with this id where it has none that a copy can carry."""
    return envelope if _is_id(envelope.message_id) else replace(envelope, message_id=message_id)


def _envelope(properties: Properties, headers: dict[str, object]) -> Envelope:
    if not headers and properties.content_type is None and properties.message_id is None:
        # Most producers say nothing; a message then costs no envelope.
        return NO_ENVELOPE if _says_nothing(properties) else _read_envelope(properties, headers)
    return _read_envelope(properties, headers)


def _says_nothing(properties: Properties) -> bool:
    names = (*_TEXT_PROPERTIES, "timestamp", "priority", "expiration", "user_id")
    return all(getattr(properties, name) is None for name in names)


def _read_envelope(properties: Properties, headers: dict[str, object]) -> Envelope:
    texts = {
        field: value
        for name, field in _TEXT_PROPERTIES.items()
        if isinstance(value := getattr(properties, name), str)
    }
    unreadable = [name for name in _TEXT_PROPERTIES if isinstance(getattr(properties, name), bytes)]
    gone = [name for name in ("expiration", "user_id") if getattr(properties, name) is not None]
    priority = properties.priority
    return Envelope(
        **texts,
        priority=int(priority) if isinstance(priority, int) and 0 <= priority < 256 else None,
        timestamp=_moment(properties.timestamp),
        headers=headers,
        not_copied=(*unreadable, *gone),
    )


def _headers(properties: Properties) -> dict[str, object]:
    headers: Any = properties.headers
    return {str(name): _plain(value) for name, value in headers.items()} if headers else {}


def _message_id(envelope: Envelope, body: bytes) -> str:
    """Return an id that is the same at every delivery."""
    if _is_id(envelope.message_id):
        return envelope.message_id
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _is_id(text: str) -> bool:
    # No database stores a NUL in text.
    return 0 < len(text) <= MAX_ID_CHARACTERS and "\0" not in text


def _text_or_bytes(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _receive_count(headers: Mapping[str, object], *, is_redelivered: bool) -> int:
    """Return the deliveries so far: those before a copy was made, and those of this message.

    Which header counts the latter differs between versions; classic queues have a flag alone.
    """
    carried = headers.get(RECEIVE_COUNT) if _was_delayed(headers) else None
    if not is_redelivered:
        return _count(carried) + 1
    counts = (headers.get("x-acquired-count"), headers.get("x-delivery-count"))
    # A producer may have written these, too; no queue delivers a message so often.
    known = [value for value in counts if isinstance(value, int) and value < UNREACHABLE_LIMIT]
    return _count(carried) + max([1, *known]) + 1


def _was_delayed(headers: Mapping[str, object]) -> bool:
    """Return whether a message comes from a retry queue, so that its count is one of ours."""
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else None
    queue = last.get("queue") if isinstance(last, dict) else headers.get("x-first-death-queue")
    return isinstance(queue, str) and _RETRY_QUEUE.search(queue) is not None


def _count(carried: object) -> int:
    text = str(carried) if isinstance(carried, str | int) else ""
    is_count = text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_COUNT))
    return int(text) if is_count else 0


def _sent_at(properties: Properties, headers: Mapping[str, object]) -> datetime | None:
    """Return when the server or the producer says that it was sent."""
    first_sent = headers.get(FIRST_SENT)
    return (
        _moment(headers.get("timestamp_in_ms"))
        or _moment(properties.timestamp)
        or (_from_iso(first_sent) if isinstance(first_sent, str) else None)
    )


def _from_iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _moment(value: object) -> datetime | None:
    """Return the time of a timestamp in seconds or milliseconds, if it can be one."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    seconds = value / 1000 if value >= _MILLISECONDS_FROM else float(value)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if _EARLIEST <= moment <= datetime.now(UTC) + timedelta(days=1) else None


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _inherited(headers: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """Return the headers that a copy may have, and the names of the others that were written."""
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    room_bytes: float = MAX_HEADER_BYTES
    for name, value in headers.items():
        if name.startswith(_OF_THE_SERVER):
            continue
        size_bytes = _size_bytes(name, 0) + _size_bytes(value, 0)
        if name in _NEVER_COPIED or not _is_short(name) or size_bytes > room_bytes:
            left_out.append(f"header {name}")
        else:
            kept[name] = value
            room_bytes -= size_bytes
    return kept, left_out


def _size_bytes(value: object, depth: int) -> float:
    """Return about how long a value is as AMQP; infinite for one that cannot be written."""
    if value is None or isinstance(value, bool):
        return 2
    if isinstance(value, int):
        return 9 if value in _INT64 else float("inf")
    if isinstance(value, str):
        return 5 + _utf8_bytes(value)
    if isinstance(value, bytes):
        return 5 + len(value)
    if isinstance(value, datetime):
        return 9 if value.year >= 1970 else float("inf")
    if depth == _MAX_DEPTH or not isinstance(value, list | dict):
        return float("inf")
    if isinstance(value, list):
        return 5 + sum(_size_bytes(item, depth + 1) for item in value)
    if not all(isinstance(name, str) and _is_short(name) for name in value):
        return float("inf")
    pairs = value.items()
    return 5 + sum(_size_bytes(name, 0) + _size_bytes(item, depth + 1) for name, item in pairs)


def _is_short(text: str) -> bool:
    return _utf8_bytes(text) <= MAX_SHORT_BYTES


def _utf8_bytes(text: str) -> float:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return float("inf")


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value without pika's own kind of integer, which only the transport should see."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if depth == _MAX_DEPTH:
        return value
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item, depth + 1) for name, item in value.items()}
    return value
