"""Rules for the fields that all streams' messages have: ids, currency, zone, versions, hash."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from product_consumer.errors import ConfigurationError, InvalidMessage
from product_consumer.messages.times import MAX_FUTURE, from_microseconds
from product_consumer.models import MAX_ID_BYTES, Message
from product_consumer.money import EXPONENTS
from product_consumer.text import check_text, excerpt

MESSAGE_SCHEMA_VERSION = 1
"""The newest ``schema_version`` that this version reads."""
ORIGINAL_VERSION = "original_version"
"""Attribute of a redriven message: epoch microseconds at which its first copy was sent."""

MAX_EXACT_DOUBLE = 2**53
"""An integer above it may have changed when a producer kept it as a double."""

# ``isprintable`` refuses more: other spaces and unassigned characters may be in an id.
_CONTROLS = {"Cc", "Zl", "Zp"}
_MICROSECONDS_TEXT = re.compile(r"[0-9]{1,17}")
# A body's objects may hold exact decimals, for which JSON has no type.
_CANONICAL_JSON = json.JSONEncoder(sort_keys=True, default=str)


def check_currency(code: str) -> None:
    """Raise ``ConfigurationError`` unless the code is empty or a currency of ISO 4217."""
    if code and code not in EXPONENTS:
        problem = f"{code!r} is not a currency of ISO 4217, such as VND or USD"
        raise ConfigurationError("DEFAULT_CURRENCY", problem)


def check_zone(name: str) -> ZoneInfo:
    """Return the time zone of a name; raises ``ConfigurationError`` for an unknown name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        problem = f"{name!r} is not an IANA time zone"
        raise ConfigurationError("SOURCE_TIMEZONE", problem) from error


def check_schema_version(raw: object) -> None:
    """Raise ``InvalidMessage("unsupported_schema")`` for a newer schema than this version reads."""
    if raw is None:
        return
    text = str(raw).strip() if isinstance(raw, int | Decimal | str) else ""
    is_number = re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text) is not None
    if not is_number or Decimal(text) > MESSAGE_SCHEMA_VERSION:
        problem = f"schema_version is {excerpt(raw)}; this version reads {MESSAGE_SCHEMA_VERSION}"
        raise InvalidMessage("unsupported_schema", problem)


def missing(field: str) -> InvalidMessage:
    """Return the error of a required field that is absent, null or blank."""
    return InvalidMessage(f"missing:{field}", f"{field} is required and must not be empty")


def read_id(raw: object, field: str) -> str:
    """Return an id in NFC and without outer spaces; an integer as its digits, 4711.0 as 4711.

    Raises ``InvalidMessage``: ``missing:<field>``, ``id_type``, ``id_invalid``, ``id_too_long``,
    ``text_invalid``.
    """
    if raw is None:
        raise missing(field)
    raw = integer_of_double(raw)
    if isinstance(raw, int) and not isinstance(raw, bool):
        return str(raw)
    if not isinstance(raw, str):
        raise InvalidMessage("id_type", f"{field} is {excerpt(raw)}; text or an integer is needed")
    stripped = check_text(raw, field).strip()
    # Before NFC, whose time grows with the square of a long run of combining characters.
    if len(stripped.encode()) > 4 * MAX_ID_BYTES:
        raise _too_long(field, stripped)
    text = unicodedata.normalize("NFC", stripped)
    if not text:
        raise InvalidMessage("id_invalid", f"{field} is blank")
    if not text.isprintable() and any(
        unicodedata.category(character) in _CONTROLS for character in text
    ):
        raise InvalidMessage("id_invalid", f"{field} {excerpt(text)} contains a control character")
    if len(text.encode()) > MAX_ID_BYTES:
        raise _too_long(field, text)
    return text


def integer_of_double(raw: object) -> object:
    """Return the integer of a number such as 17.0, as pandas writes one; else the value itself."""
    if isinstance(raw, Decimal) and abs(raw) <= MAX_EXACT_DOUBLE and raw == int(raw):
        return int(raw)
    return raw


def none_if_blank(raw: object) -> object:
    """Return the value of a field; None for text of spaces alone."""
    return None if isinstance(raw, str) and not raw.strip() else raw


def original_sent_at(message: Message, now: datetime) -> datetime | None:
    """Return when the first copy of a redriven message was sent; None when it was not redriven.

    A value that cannot be such a time is ignored: the attribute is not part of the producer's
    message.
    """
    text = message.attributes.get(ORIGINAL_VERSION, "")
    if not _MICROSECONDS_TEXT.fullmatch(text):
        return None
    at = from_microseconds(int(text))
    return at if at <= now + MAX_FUTURE else None


def first_sent_at(message: Message, now: datetime) -> datetime:
    """Return when a message was sent, UTC; for a redriven message, when its first copy was."""
    return original_sent_at(message, now) or message.sent_at.astimezone(UTC)


def payload_hash(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of a message's fields, however the message was written.

    Absent fields are left out: a field added later must not change the hash of other messages.
    """
    present = {name: value for name, value in fields.items() if value is not None}
    return hashlib.sha256(_CANONICAL_JSON.encode(present).encode()).hexdigest()


def _too_long(field: str, text: str) -> InvalidMessage:
    return InvalidMessage("id_too_long", f"{field} {excerpt(text)}: more than {MAX_ID_BYTES} bytes")
