"""Rejected messages as text and JSON; their bodies and attributes may hold anything."""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from product_consumer.errors import IgnoreMessage, InvalidMessage
from product_consumer.messages.envelopes import open_body
from product_consumer.text import cut_to_bytes, printable

if TYPE_CHECKING:
    from product_consumer.queues.dead_letters.redrive import RejectedMessage

_MAX_ID_BYTES = 100
# For bodies that are no valid message: the first text that looks like an id.
_VALUE = r'\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9]+)'
_IDS = {name: re.compile(f'"{name}"{_VALUE}') for name in ("id", "order_id")}
_SEARCHED_CHARACTERS = 65_536


def message_line(message: "RejectedMessage") -> str:
    """Return id, reason, stage, receive count, first sent, and the ids in its body."""
    columns = [
        message.id,
        message.reason,
        message.stage or "-",
        f"received {message.receive_count}x",
        message.first_sent,
    ]
    product, order = product_id(message.body), order_id(message.body)
    columns += [f"product {product}"] if product is not None else []
    columns += [f"order {order}"] if order is not None else []
    columns += [f"{len(message.copies)} copies"] if len(message.copies) > 1 else []
    return "  ".join(printable(column) for column in columns)


def message_as_json(message: "RejectedMessage") -> dict[str, Any]:
    """Return the fields of a message as JSON values, all but its body."""
    return {
        "message_id": message.id,
        "reason": message.reason,
        "stage": message.stage or None,
        "detail": message.detail or None,
        "receive_count": message.receive_count,
        "first_sent": message.first_sent,
        "original_version": message.original_version,
        "source_queue": message.source_queue or None,
        "product_id": product_id(message.body),
        "order_id": order_id(message.body),
        "body_bytes": len(body_bytes(message.body)),
        "copies": len(message.copies),
    }


def message_lines(message: "RejectedMessage") -> Iterator[str]:
    """Yield every field, copy and attribute of a message, then the lines of its body."""
    for name, value in message_as_json(message).items():
        if value is not None:
            yield f"{name}: {printable(str(value))}"
    for copy in message.copies:
        yield f"copy: {printable(copy.message_id)}, received {copy.receive_count}x here"
    printed = set(message_as_json(message)) | {"message_id"}
    for name, value in sorted(message.copies[0].attributes.items()):
        if name not in printed:
            yield f"attribute {printable(name)}: {printable(value)}"
    yield "body:"
    body = message.body
    text = body.decode("utf-8", "backslashreplace") if isinstance(body, bytes) else body
    for line in text.split("\n"):
        yield "  " + printable(line)


def product_id(body: str | bytes) -> str | None:
    """Return the product's id as far as the body can be read; None where it has no id."""
    return _readable(body, "id")


def order_id(body: str | bytes) -> str | None:
    """Return the order's id as far as the body can be read; None where it has no id."""
    return _readable(body, "order_id")


def body_bytes(body: str | bytes) -> bytes:
    """Return a body as the bytes that its producer sent."""
    return body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")


def plural(count: int, noun: str) -> str:
    """Return ``1 message`` or ``2 messages``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _readable(body: str | bytes, name: str) -> str | None:
    try:
        value = open_body(body).get(name)
    except (InvalidMessage, IgnoreMessage):
        value = _id_in_text(body, _IDS[name])
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return cut_to_bytes(str(value), _MAX_ID_BYTES)


def _id_in_text(body: str | bytes, pattern: "re.Pattern[str]") -> object:
    text = (
        body[: 4 * _SEARCHED_CHARACTERS].decode("utf-8", "replace")
        if isinstance(body, bytes)
        else body
    )
    match = pattern.search(text[:_SEARCHED_CHARACTERS])
    if match is None:
        return None
    try:
        return json.loads(match[1])
    except ValueError:
        return match[1]
