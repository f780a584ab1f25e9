"""Message body -> Product, or the named reason why it can never be one.

Checks run in this order, so that equal bodies get equal reasons:

1. JSON and envelopes
2. kind and schema version of the message
3. missing fields
4. each field, in the order of the schema
5. price and currency
6. version and time
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from product_consumer.errors import InvalidMessage
from product_consumer.messages.fields import (
    check_schema_version,
    first_sent_at,
    integer_of_double,
    none_if_blank,
    original_sent_at,
    payload_hash,
)
from product_consumer.messages.parser import MessageParser
from product_consumer.messages.prices import parse_price
from product_consumer.messages.times import (
    EventTime,
    parse_event_time,
    to_microseconds,
)
from product_consumer.models import Message, Product, Version
from product_consumer.products.schema import (
    ProductMessage,
    TombstoneMessage,
    message_schema,
    rejection,
)
from product_consumer.text import excerpt

Model = TypeVar("Model", bound=BaseModel)

RANK_VERSION, RANK_EVENT_TIME, RANK_SENT_TIME = 2, 1, 0
_MAX_VERSION = 2**63 - 1
_VERSION_TEXT = re.compile(r"(?P<integer>-?[0-9]+)(?:\.0+)?")


@dataclass(frozen=True, slots=True)
class _Precedence:
    """The version of a message, without its hash, and its event time in UTC."""

    rank: int
    value: int
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductParser(MessageParser):
    """Parser of product messages. Any thread may call it."""

    def parse(self, message: Message, now: datetime | None = None) -> Product:
        """Return the product of a message; ``now`` (aware) is the time to measure the future from.

        Raises ``InvalidMessage`` with a reason that no retry can change, and ``IgnoreMessage`` for
        a message that carries nothing. No body makes it raise anything else.
        """
        fields = self.open(message)
        _check_kind(fields)
        check_schema_version(fields.get("schema_version"))
        clock = now or datetime.now(UTC)
        if fields.get("deleted") is True:
            return self._tombstone(fields, message, clock)
        return self._product(fields, message, clock)

    def _product(self, fields: dict[str, Any], message: Message, now: datetime) -> Product:
        flags: list[str] = []
        valid = _validate(ProductMessage, fields, flags)
        price = parse_price(valid.price, none_if_blank(valid.currency), self.default_currency)
        precedence = self._precedence(valid, message, now, flags)
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
        return _build(content, precedence, flags)

    def _tombstone(self, fields: dict[str, Any], message: Message, now: datetime) -> Product:
        flags: list[str] = []
        valid = _validate(TombstoneMessage, fields, flags)
        precedence = self._precedence(valid, message, now, flags)
        if precedence.rank == RANK_SENT_TIME and original_sent_at(message, now) is None:
            # The time of sending is not the time of removal: a delayed tombstone would remove a
            # product that has come back since.
            problem = "a tombstone needs version, updated_at or timestamp"
            raise InvalidMessage("missing:version", problem)
        return _build({"id": valid.id, "deleted": True}, precedence, flags)

    def _precedence(
        self,
        valid: ProductMessage | TombstoneMessage,
        message: Message,
        now: datetime,
        flags: list[str],
    ) -> _Precedence:
        number = _version_number(valid.version)
        event_time = self._event_time(valid, now, flags, decides=number is None)
        if event_time is not None and event_time.timezone_assumed:
            flags.append("timezone_assumed")
        observed_at = event_time.at if event_time else first_sent_at(message, now)
        if number is not None:
            return _Precedence(RANK_VERSION, number, observed_at)
        rank = RANK_EVENT_TIME if event_time else RANK_SENT_TIME
        if rank == RANK_SENT_TIME and not message.is_sent_time_known:
            flags.append("sent_time_unknown")
        return _Precedence(rank, to_microseconds(observed_at), observed_at)

    def _event_time(
        self,
        valid: ProductMessage | TombstoneMessage,
        now: datetime,
        flags: list[str],
        *,
        decides: bool,
    ) -> EventTime | None:
        """Return the first time of the body; ``decides``: which message is newer, too.

        Beside a version, a time that cannot be read is left out.
        """
        for field in ("updated_at", "timestamp"):
            try:
                event_time = parse_event_time(getattr(valid, field), self._zone, now)
            except InvalidMessage:
                if decides:
                    raise
                flags.append(f"{field}_ignored")
            else:
                if event_time is not None:
                    return event_time
        return None


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


def _version_number(raw: object) -> int | None:
    if none_if_blank(raw) is None:
        return None
    number = integer_of_double(raw)
    is_readable = isinstance(number, int | str) and not isinstance(number, bool)
    match = _VERSION_TEXT.fullmatch(str(number).strip() if is_readable else "")
    if match is None:
        raise InvalidMessage("version_invalid", f"version is {excerpt(raw)}; an integer is needed")
    digits = match["integer"]
    # By the length first: Python refuses to read an integer of more than 4,300 digits.
    if len(digits) > 100 or not 0 <= int(digits) <= _MAX_VERSION:
        raise InvalidMessage("number_range", f"version {excerpt(raw)} is not from 0 to 2^63-1")
    return int(digits)


def _build(content: dict[str, Any], precedence: _Precedence, flags: list[str]) -> Product:
    version = Version(precedence.rank, precedence.value, payload_hash(content))
    return Product(
        **content, version=version, observed_at=precedence.observed_at, flags=tuple(flags)
    )
