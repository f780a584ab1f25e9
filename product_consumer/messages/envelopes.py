"""Message body -> the JSON object inside it: strict JSON, known envelopes unwrapped.

Strict, because Python's lenient ``json`` hides a producer's errors: it keeps the last of two equal
keys, reads NaN, turns 1e999 into infinity, and spends seconds on 1e400000.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from product_consumer.errors import IgnoreMessage, InvalidMessage
from product_consumer.messages.cloud_events import (
    MESSAGE_FIELDS,
    OBJECT_TEXT,
    content_of_cloud_event,
    is_cloud_event,
)
from product_consumer.text import excerpt

MAX_BODY_BYTES = 1024 * 1024
"""The largest body SQS takes."""
MAX_DEPTH = 64
"""Levels of nested objects and lists; independent of the depth of the interpreter's stack."""
MAX_ENVELOPES = 2
"""EventBridge through SNS; a third envelope is a loop or an attack."""
MAX_NUMBER_CHARACTERS = 100
MAX_INTEGER_CHARACTERS = 30
MAX_EXPONENT = 308
"""Of a decimal number: the range of a double."""

_OFFLOADED = "the body was offloaded to S3 (extended client)"
# MessageS3Pointer in the first version of Amazon's client, PayloadS3Pointer in the second.
_S3_POINTER = re.compile(r"[\w.$]{0,200}S3Pointer")


def open_body(body: str | bytes) -> dict[str, Any]:
    """Return the object inside a body, out of at most ``MAX_ENVELOPES`` envelopes.

    JSON text whose value is the JSON text of an object stands for that object: some producers
    write their JSON twice.

    Numbers with a fraction or an exponent are ``Decimal``, so that 19.99 stays exact. Raises
    ``InvalidMessage`` (``too_large``, ``encoding``, ``json_...``, ``number_range``,
    ``unsupported_envelope``, ``envelope_too_deep``), or ``IgnoreMessage`` for S3's test event.
    """
    value = _read_content(_as_text(body))
    for _ in range(MAX_ENVELOPES):
        outer = _as_object(value)
        content = _content(outer)
        if content is None:
            return outer
        value = _read_content(content) if isinstance(content, str) else content
    inner = _as_object(value)
    if _content(inner) is not None:
        raise InvalidMessage("envelope_too_deep", f"more than {MAX_ENVELOPES} envelopes")
    return inner


def read_json(text: str) -> Any:
    """Parse JSON; raise ``InvalidMessage`` for text that two parsers could read differently."""
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        problem = (
            f"{error.msg} at character {error.pos}: {excerpt(text[error.pos : error.pos + 40])}"
        )
        raise InvalidMessage("json_invalid", problem) from error
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _read_content(text: str) -> Any:
    value = read_json(text)
    inner = value.removeprefix("\ufeff") if isinstance(value, str) else ""
    return read_json(inner) if inner.lstrip().startswith("{") else value


def _as_text(body: str | bytes) -> str:
    size_bytes = len(body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass"))
    if size_bytes > MAX_BODY_BYTES:
        raise InvalidMessage("too_large", f"{size_bytes} bytes; at most {MAX_BODY_BYTES}")
    if isinstance(body, bytes):
        body = _decode(body)
    return body.removeprefix("\ufeff")


def _decode(body: bytes) -> str:
    # UTF-16 of ASCII text is also valid UTF-8, full of NULs. No JSON text begins with NULs.
    if b"\x00" in body[:4]:
        raise InvalidMessage("encoding", "the body is not UTF-8 (UTF-16 or UTF-32?)")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidMessage("encoding", f"not UTF-8 at byte {error.start}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidMessage("json_duplicate_key", excerpt(repeated))
    return fields


def _decimal(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise InvalidMessage("number_range", f"a number of {len(text)} characters")
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise InvalidMessage("number_range", excerpt(text)) from error
    # The exponent is compared: int(Decimal("1e400000")) would take seconds.
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise InvalidMessage("number_range", excerpt(text))
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_CHARACTERS:
        raise InvalidMessage("number_range", f"an integer of {len(text)} digits")
    return int(text)


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidMessage("json_nonfinite", f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_decimal,
    parse_int=_integer,
    parse_constant=_refuse_constant,
)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return
        level = [
            child
            for item in containers
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    raise _too_deep()


def _too_deep() -> InvalidMessage:
    return InvalidMessage("json_too_deep", f"nested more than {MAX_DEPTH} levels")


def _as_object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        fields: dict[str, Any] = value
        return fields
    if isinstance(value, list) and value:
        return _only_event(value)
    raise InvalidMessage("json_not_object", f"{excerpt(value)} where an object is needed")


def _only_event(values: list[Any]) -> dict[str, Any]:
    """Return the event of a batch of one."""
    if isinstance(values[0], str) and _S3_POINTER.fullmatch(values[0]):
        raise InvalidMessage("unsupported_envelope", _OFFLOADED)
    if not all(isinstance(value, dict) and is_cloud_event(value) for value in values):
        raise InvalidMessage("json_not_object", f"{excerpt(values)} where an object is needed")
    if len(values) > 1:
        raise InvalidMessage("unsupported_envelope", f"a batch of {len(values)} CloudEvents")
    event: dict[str, Any] = values[0]
    return event


def _content(outer: dict[str, Any]) -> str | dict[str, Any] | None:
    """Return the content of an envelope, JSON text or an object; None if it is no envelope."""
    _refuse_unsupported(outer)
    text = outer.get("Message")
    if outer.get("Type") == "Notification" and isinstance(text, str):
        return text.removeprefix("\ufeff")
    if is_cloud_event(outer):
        return content_of_cloud_event(outer)
    # EventBridge's own envelope has an id too, so an id alone does not make a product.
    detail = outer.get("detail")
    is_event = "detail-type" in outer or "id" not in outer
    if is_event and isinstance(detail, dict):
        return detail
    if "detail-type" not in outer or outer.keys() & MESSAGE_FIELDS:
        return None
    if isinstance(detail, str) and OBJECT_TEXT.match(detail):
        return detail.removeprefix("\ufeff")
    problem = f"an event of EventBridge whose detail is no JSON object: {excerpt(detail)}"
    raise InvalidMessage("unsupported_envelope", problem)


def _refuse_unsupported(outer: dict[str, Any]) -> None:
    if outer.get("Event") == "s3:TestEvent":
        raise IgnoreMessage("s3_test_event", "S3 sends it once when notifications are set up")
    if "detail-type" in outer and outer.get("source") == "aws.s3":
        raise InvalidMessage("unsupported_envelope", "an S3 event of EventBridge")
    if outer.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        raise InvalidMessage("unsupported_envelope", "an SNS subscription message")
    if "id" in outer:
        return
    if isinstance(outer.get("Records"), list):
        raise InvalidMessage("unsupported_envelope", "an event notification with Records (S3?)")
    if isinstance(outer.get("S3Payload"), dict) or {"s3BucketName", "s3Key"} <= outer.keys():
        raise InvalidMessage("unsupported_envelope", _OFFLOADED)
