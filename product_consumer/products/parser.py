"""Message body -> Product, or the named reason why it can never be one.

Problems are looked for in one order, so that equal bodies get equal reasons: the JSON, the
envelopes, the kind and schema version of the message, required fields that are missing, each field
in the order of the schema, the price with its currency, and last what orders the message.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ValidationError

from product_consumer.errors import ConfigurationError, InvalidMessage
from product_consumer.messages.envelopes import open_body
from product_consumer.messages.prices import parse_price
from product_consumer.messages.times import (
    MAX_FUTURE,
    EventTime,
    from_microseconds,
    parse_event_time,
    to_microseconds,
)
from product_consumer.models import Message, Product, Version
from product_consumer.money import EXPONENTS
from product_consumer.products.schema import (
    ProductMessage,
    TombstoneMessage,
    message_schema,
    rejection,
)
from product_consumer.text import excerpt

SCHEMA_VERSION = 1
ORIGINAL_VERSION = "original_version"
"""Message attribute of a redriven message: when its first copy was sent, in epoch microseconds."""

Model = TypeVar("Model", bound=BaseModel)

RANK_VERSION, RANK_EVENT_TIME, RANK_SENT_TIME = 2, 1, 0
_MAX_VERSION = 2**63 - 1
_SORTED = json.JSONEncoder(sort_keys=True)
_VERSION_TEXT = re.compile(r"-?[0-9]+")
_MICROSECONDS_TEXT = re.compile(r"[0-9]{1,17}")


@dataclass(frozen=True, slots=True)
class _Order:
    """What decides which message is newer, and the event time it carries."""

    rank: int
    value: int
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductParser:
    """Turns messages into products.

    ``default_currency``: ISO 4217 code for prices that name none; empty rejects them.
    ``source_timezone``: IANA name of the zone of times without one.
    Raises ``ConfigurationError`` when either does not exist. Safe to share between threads.
    """

    default_currency: str
    source_timezone: str
    _zone: ZoneInfo = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_currency(self.default_currency)
        object.__setattr__(self, "_zone", check_zone(self.source_timezone))

    def parse(self, message: Message, now: datetime | None = None) -> Product:
        """Return the product of a message; ``now`` (aware) is the time to measure the future from.

        Raises ``InvalidMessage`` with a reason that no retry can change, and ``IgnoreMessage`` for
        a message that is known to carry nothing. Nothing else, whatever the body is.
        """
        fields = open_body(message.body)
        _check_kind(fields)
        check_schema_version(fields.get("schema_version"))
        clock = now or datetime.now(UTC)
        if fields.get("deleted") is True:
            return self._tombstone(fields, message, clock)
        return self._product(fields, message, clock)

    def _product(self, fields: dict[str, Any], message: Message, now: datetime) -> Product:
        flags: list[str] = []
        valid = _validate(ProductMessage, fields, flags)
        price = parse_price(valid.price, _or_none(valid.currency), self.default_currency)
        order = self._order(valid, message, now, flags)
        if price is not None and price.minor == 0:
            flags.append("price_zero")
        content = {
            "id": valid.id,
            "name": valid.name,
            "image_url": valid.image_url,
            "store_url": valid.store_url,
            "price_minor": price.minor if price else None,
            "currency": price.currency if price else None,
            "rating": valid.rating,
            "reviews_count": valid.reviews_count,
            "description": valid.description,
            "category": valid.category,
            "brand": valid.brand,
        }
        return _build(content, order, flags)

    def _tombstone(self, fields: dict[str, Any], message: Message, now: datetime) -> Product:
        flags: list[str] = []
        valid = _validate(TombstoneMessage, fields, flags)
        order = self._order(valid, message, now, flags)
        if order.rank == RANK_SENT_TIME and original_sent_at(message, now) is None:
            # The time of sending says when someone spoke, not when the product was gone: a delayed
            # tombstone would remove a product that has come back since.
            problem = "a tombstone needs version, updated_at or timestamp"
            raise InvalidMessage("missing:version", problem)
        return _build({"id": valid.id, "deleted": True}, order, flags)

    def _order(
        self,
        valid: ProductMessage | TombstoneMessage,
        message: Message,
        now: datetime,
        flags: list[str],
    ) -> _Order:
        number = _version_number(valid.version)
        event_time = self._event_time(valid, now)
        if event_time is not None and event_time.timezone_assumed:
            flags.append("timezone_assumed")
        sent_at = original_sent_at(message, now) or message.sent_at.astimezone(UTC)
        observed_at = event_time.at if event_time else sent_at
        if number is not None:
            return _Order(RANK_VERSION, number, observed_at)
        rank = RANK_EVENT_TIME if event_time else RANK_SENT_TIME
        return _Order(rank, to_microseconds(observed_at), observed_at)

    def _event_time(
        self, valid: ProductMessage | TombstoneMessage, now: datetime
    ) -> EventTime | None:
        updated_at = parse_event_time(valid.updated_at, self._zone, now)
        return updated_at or parse_event_time(valid.timestamp, self._zone, now)


def product_schema() -> dict[str, Any]:
    """Return the JSON Schema of a message body, for producers: a product or a tombstone."""
    return message_schema()


def _validate(model: type[Model], fields: dict[str, Any], flags: list[str]) -> Model:
    try:
        return model.model_validate(fields, context=flags)
    except ValidationError as error:
        raise rejection(error) from error


def _check_kind(fields: Mapping[str, Any]) -> None:
    if "order_id" in fields and "id" not in fields:
        raise InvalidMessage("wrong_kind", "an order on the queue of products")


def check_currency(code: str) -> None:
    """Raise ``ConfigurationError`` for what is neither empty nor a currency of ISO 4217."""
    if code and code not in EXPONENTS:
        problem = f"{code!r} is not a currency of ISO 4217, such as VND or USD"
        raise ConfigurationError("DEFAULT_CURRENCY", problem)


def check_zone(name: str) -> ZoneInfo:
    """Return the zone of times without one; raises ``ConfigurationError`` for an unknown name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        problem = f"{name!r} is not an IANA time zone"
        raise ConfigurationError("SOURCE_TIMEZONE", problem) from error


def check_schema_version(raw: object) -> None:
    """Raise ``InvalidMessage("unsupported_schema")`` for a message from the future."""
    if raw is None:
        return
    text = str(raw).strip() if isinstance(raw, int | Decimal | str) else ""
    is_number = re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text) is not None
    if not is_number or Decimal(text) > SCHEMA_VERSION:
        problem = f"schema_version is {excerpt(raw)}; this version reads {SCHEMA_VERSION}"
        raise InvalidMessage("unsupported_schema", problem)


def _version_number(raw: object) -> int | None:
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return None
    text = str(raw).strip() if isinstance(raw, int | str) and not isinstance(raw, bool) else ""
    if not _VERSION_TEXT.fullmatch(text):
        raise InvalidMessage("version_invalid", f"version is {excerpt(raw)}; an integer is needed")
    # By the length first: Python refuses to read an integer of more than 4,300 digits.
    if len(text) > 100 or not 0 <= int(text) <= _MAX_VERSION:
        raise InvalidMessage("number_range", f"version {excerpt(raw)} is not from 0 to 2^63-1")
    return int(text)


def original_sent_at(message: Message, now: datetime) -> datetime | None:
    """Return when the first copy of a redriven message was sent; None when it was not redriven.

    What cannot be such a time is ignored: the attribute is not part of the producer's message.
    """
    text = message.attributes.get(ORIGINAL_VERSION, "")
    if not _MICROSECONDS_TEXT.fullmatch(text):
        return None
    at = from_microseconds(int(text))
    return at if at <= now + MAX_FUTURE else None


def _or_none(currency: object) -> object:
    return None if isinstance(currency, str) and not currency.strip() else currency


def _build(content: dict[str, Any], order: _Order, flags: list[str]) -> Product:
    version = Version(order.rank, order.value, _payload_hash(content))
    return Product(**content, version=version, observed_at=order.observed_at, flags=tuple(flags))


def _payload_hash(content: dict[str, Any]) -> str:
    """Return the SHA-256 of what a message says, however it was written.

    Absent fields are left out: a field added later must not change the hash of other messages.
    """
    said = {name: value for name, value in content.items() if value is not None}
    return hashlib.sha256(_SORTED.encode(said).encode()).hexdigest()
