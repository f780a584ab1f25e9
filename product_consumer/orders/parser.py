"""Message body -> Order, or the named reason why it can never be one.

Checks run in this order, so that equal bodies get equal reasons:

1. JSON and envelopes
2. kind and schema version of the message
3. missing fields
4. ids
5. currency and value
6. items and their sum
7. time
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from product_consumer.errors import InvalidMessage
from product_consumer.messages.envelopes import open_body
from product_consumer.messages.fields import (
    check_schema_version,
    first_sent_at,
    none_if_blank,
    payload_hash,
)
from product_consumer.messages.parser import MessageParser
from product_consumer.messages.times import parse_event_time
from product_consumer.models import Message
from product_consumer.money import money_text
from product_consumer.orders.cleaning import (
    clean_id,
    clean_items,
    clean_payment_method,
    clean_user_id,
    parse_amount,
    total_minor,
)
from product_consumer.orders.models import Order, OrderItem

_REQUIRED = ("order_id", "user_id", "items", "order_value")
_TIME, _TIME_OF_PRODUCTS = "order_timestamp", "timestamp"
_KNOWN = {
    *_REQUIRED,
    *(_TIME, "currency", "payment_method", "shipping_address", "schema_version"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderParser(MessageParser):
    """Parser of order messages. Any thread may call it."""

    def parse(self, message: Message, now: datetime | None = None) -> Order:
        """Return the order of a message; ``now`` (aware) is the time to measure the future from.

        Raises ``InvalidMessage`` with a reason that no retry can change, and ``IgnoreMessage`` for
        a message that carries nothing. No body makes it raise anything else.
        """
        fields = self.open(message)
        _check_kind(fields)
        check_schema_version(fields.get("schema_version"))
        _check_required(fields)
        time_field = _time_field(fields)
        flags = ["unknown_fields"] if fields.keys() - _KNOWN - {time_field} else []
        order_id = clean_id(fields["order_id"], "order_id", flags)
        user_id = clean_user_id(fields["user_id"], flags)
        currency = none_if_blank(fields.get("currency"))
        value = parse_amount(
            fields["order_value"], "order_value", currency, self.default_currency, flags
        )
        items = clean_items(fields["items"], value.currency, self.default_currency, flags)
        _check_total(value.minor, value.currency, items)
        payment_method = clean_payment_method(fields.get("payment_method"), flags)
        if not _plain(fields.get("shipping_address")):
            flags.append("address_missing")
        stated_at = self._stated_at(fields.get(time_field), now or datetime.now(UTC), flags)
        if stated_at is not None and time_field != _TIME:
            flags.append("time_from_timestamp")
        if stated_at is None and not message.is_sent_time_known:
            flags.append("sent_time_unknown")
        content = {
            "order_id": order_id,
            "user_id": user_id,
            "ordered_at": stated_at.isoformat() if stated_at else None,
            "value_minor": value.minor,
            "currency": value.currency,
            "items": sorted((item.product_id, item.unit_minor, item.quantity) for item in items),
            "payment_method": payment_method,
            "shipping_address": _plain(fields.get("shipping_address")),
        }
        return Order(
            order_id=order_id,
            user_id=user_id,
            ordered_at=stated_at or first_sent_at(message, now or datetime.now(UTC)),
            value_minor=value.minor,
            currency=value.currency,
            items=items,
            payload_hash=payload_hash(content),
            payment_method=payment_method,
            flags=tuple(flags),
        )

    def _stated_at(self, raw: object, now: datetime, flags: list[str]) -> datetime | None:
        event_time = parse_event_time(raw, self._zone, now)
        if event_time is None:
            flags.append("time_from_queue")
            return None
        if event_time.timezone_assumed:
            flags.append("timezone_assumed")
        return event_time.at


def readable_order_id(message: Message) -> str | None:
    """Return the order id of a message that may be invalid; None where it cannot be read."""
    try:
        return clean_id(open_body(message.body).get("order_id"), "order_id", [])
    except Exception:
        # The parser has already reported what is wrong with the message.
        return None


def _time_field(fields: Mapping[str, Any]) -> str:
    """Return the name of the field that has the order's time, if any has."""
    is_absent = none_if_blank(fields.get(_TIME)) is None
    has_other = none_if_blank(fields.get(_TIME_OF_PRODUCTS)) is not None
    return _TIME_OF_PRODUCTS if is_absent and has_other else _TIME


def _check_kind(fields: Mapping[str, Any]) -> None:
    if "id" in fields and "order_id" not in fields and "items" not in fields:
        raise InvalidMessage("wrong_kind", "a product on the queue of orders")


def _check_required(fields: Mapping[str, Any]) -> None:
    for name in _REQUIRED:
        value = fields.get(name)
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            is_blank_id = name.endswith("_id") and value is not None
            reason = "id_invalid" if is_blank_id else f"missing:{name}"
            raise InvalidMessage(reason, f"{name} is required and must not be empty")


def _check_total(value_minor: int, currency: str, items: tuple[OrderItem, ...]) -> None:
    total = total_minor(items)
    if total != value_minor:
        stated, summed = money_text(value_minor, currency), money_text(total, currency)
        raise InvalidMessage(
            "order_total", f"order_value is {stated} {currency}, the items are worth {summed}"
        )


def _plain(address: object) -> object:
    """Return an address for the content's hash; it is stored nowhere."""
    if isinstance(address, str):
        return " ".join(address.split()) or None
    return address
