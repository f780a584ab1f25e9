"""The values of an order as producers write them -> as they are counted, with a flag per change.

Every function takes the raw JSON value, appends a flag for each change it made, and raises
``InvalidMessage`` where a fix would be a guess.
"""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from product_consumer.errors import InvalidMessage
from product_consumer.messages.fields import missing, read_id
from product_consumer.messages.prices import Price, parse_price
from product_consumer.money import currency_exponent, without_noise
from product_consumer.orders.models import OrderItem, Quantity
from product_consumer.text import check_text, cut_to_bytes, excerpt

MAX_MINOR = 2**53
"""Largest value of an order: a reader that holds it in a double still holds it exactly."""
MAX_QUANTITY = 1_000_000
QUANTITY_DECIMALS = 6
"""Milligrams, where kilograms are sold."""
MAX_ITEMS = 1000
MAX_PAYMENT_METHOD_BYTES = 100

# Ids of this form are the same in either case: U5678, ORD1234, P001. Others (UUIDs, base64) may
# tell capital letters from small ones and stay as they are.
_NUMBERED_ID = re.compile(r"[A-Za-z]{1,3}[0-9]+")
# A colon would turn user:<id> into another key; the others are patterns of Redis's KEYS and SCAN.
_NOT_IN_USER_ID = re.compile(r"[:*?\[\]]")
_QUANTITY_TEXT = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,9})?")
_NEGATIVE_TEXT = re.compile(r"^[-\N{MINUS SIGN}]\s*[$€£¥₫]?\s*[0-9]|^\([^)]*[0-9][^)]*\)$")

_PAYMENT_METHODS = {
    "".join(character for character in name.casefold() if character.isalnum()): name
    for name in (
        *("CreditCard", "DebitCard", "PayPal", "BankTransfer", "Cash", "CashOnDelivery"),
        *("ApplePay", "GooglePay", "GiftCard", "MoMo", "ZaloPay", "VNPay"),
    )
} | {"cod": "CashOnDelivery"}


def clean_id(raw: object, field: str, flags: list[str]) -> str:
    """Return an id in NFC without outer spaces; the numbered form in capitals, without any space.

    Raises ``InvalidMessage``: ``missing:<field>``, ``id_type``, ``id_invalid``, ``id_too_long``,
    ``text_invalid``.
    """
    cleaned = read_id(raw, field)
    if not isinstance(raw, str):
        flags.append("id_from_number")
        return cleaned
    return _canonical(cleaned, raw, flags)


def clean_user_id(raw: object, flags: list[str]) -> str:
    """Return a user id, cleaned as ``clean_id`` does.

    It also names a key in Redis: ``:``, ``*``, ``?`` and brackets are ``id_invalid``.
    """
    user_id = clean_id(raw, "user_id", flags)
    if _NOT_IN_USER_ID.search(user_id):
        raise InvalidMessage("id_invalid", f"user_id {excerpt(user_id)} contains one of : * ? [ ]")
    return user_id


def clean_payment_method(raw: object, flags: list[str]) -> str | None:
    """Return a known method in its usual spelling, any other with single spaces; None when it is
    absent or not text.
    """
    if raw is None:
        return None
    if not isinstance(raw, str):
        flags.append("payment_method_ignored")
        return None
    single_spaced = " ".join(check_text(raw, "payment_method").split())
    plain = cut_to_bytes(single_spaced, MAX_PAYMENT_METHOD_BYTES).rstrip()
    key = "".join(character for character in plain.casefold() if character.isalnum())
    method = _PAYMENT_METHODS.get(key, plain)
    if method != raw:
        flags.append("payment_method_cleaned")
    return method or None


def parse_amount(
    raw: object, field: str, currency_field: object, default_currency: str, flags: list[str]
) -> Price:
    """Return an amount in minor units with its currency, from a number or text.

    Raises ``InvalidMessage``: ``missing:<field>``, ``unsupported`` (negative), ``amount_range``
    (above 2^53 minor units), ``price_type``, ``price_invalid``, ``price_ambiguous``,
    ``price_precision``, ``currency_unknown``, ``currency_mismatch``, ``text_invalid``.
    """
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        raise missing(field)
    if _is_negative(raw):
        raise InvalidMessage("unsupported", f"{field} is {excerpt(raw)}; refunds are not counted")
    try:
        price = _read_amount(raw, currency_field, default_currency, flags)
    except InvalidMessage as error:
        reason = "amount_range" if error.reason == "price_range" else error.reason
        detail = f"{field}: {error.detail}"
        if reason == "price_precision" and currency_field is None:
            detail += f" (the order names no currency and DEFAULT_CURRENCY is {default_currency})"
        raise InvalidMessage(reason, detail) from error
    if price is None:
        raise InvalidMessage("price_invalid", f"{field} is {excerpt(raw)}")
    if price.minor > MAX_MINOR:
        raise InvalidMessage("amount_range", f"{field} is {excerpt(raw)}: above 2^53 minor units")
    return price


def clean_items(
    raw: object, currency: str, default_currency: str, flags: list[str]
) -> tuple[OrderItem, ...]:
    """Return the lines of an order: nulls and zero quantities dropped, equal lines merged.

    Two lines are equal when product and unit price are; the same product at two prices is two
    lines. Raises ``InvalidMessage``: ``missing:items`` (also when nothing is left),
    ``items_type``, ``items_range``, and the reasons of each field.
    """
    if raw is None:
        raise missing("items")
    if not isinstance(raw, list):
        raise InvalidMessage("items_type", f"items is {excerpt(raw)}; a list is needed")
    if len(raw) > MAX_ITEMS:
        raise InvalidMessage("items_range", f"{len(raw)} items; at most {MAX_ITEMS}")
    quantities: dict[tuple[str, int], Quantity] = {}
    for line in _lines(raw, flags):
        quantity = _quantity(line.get("quantity"), flags)
        if quantity == 0:
            flags.append("item_zero_quantity")
            continue
        product_id = clean_id(line.get("product_id"), "product_id", flags)
        price = parse_amount(
            line.get("price_per_unit"), "price_per_unit", currency, default_currency, flags
        )
        key = (product_id, price.minor)
        if key in quantities:
            flags.append("items_merged")
        quantities[key] = quantities.get(key, 0) + quantity
    if not quantities:
        raise missing("items")
    return tuple(OrderItem(key[0], _simplest(count), key[1]) for key, count in quantities.items())


def total_minor(items: Sequence[OrderItem]) -> int:
    """Return the sum of the lines, exactly.

    Raises ``InvalidMessage``: ``amount_range`` above 2^53, ``quantity_precision`` for a sum that
    ends in a fraction of a minor unit. Rounding it would be a guess: shops round in many ways.
    """
    # In whole millionths: a context of Decimal would round the product of two long numbers.
    scale: int = 10**QUANTITY_DECIMALS
    total = sum(int(item.quantity * scale) * item.unit_minor for item in items)
    whole, fraction = divmod(total, scale)
    if whole > MAX_MINOR:
        raise InvalidMessage("amount_range", f"the items are worth {whole}: above 2^53 minor units")
    if fraction:
        exact = f"{whole}.{fraction:0{QUANTITY_DECIMALS}}".rstrip("0")
        problem = f"the items are worth {exact} minor units; a whole number is needed"
        raise InvalidMessage("quantity_precision", problem)
    return whole


def _canonical(cleaned: str, raw: str, flags: list[str]) -> str:
    if cleaned != raw:
        flags.append("id_spaces" if cleaned == raw.strip() else "id_normalised")
    without_spaces = "".join(cleaned.split())
    if not _NUMBERED_ID.fullmatch(without_spaces):
        return cleaned
    if without_spaces != cleaned:
        flags.append("id_spaces")
    if without_spaces != without_spaces.upper():
        flags.append("id_case")
    return without_spaces.upper()


def _lines(raw: list[Any], flags: list[str]) -> list[dict[str, Any]]:
    lines = []
    for item in raw:
        if item is None:
            flags.append("item_null")
        elif isinstance(item, dict):
            lines.append(item)
        else:
            raise InvalidMessage("items_type", f"an item is {excerpt(item)}; an object is needed")
    return lines


def _quantity(raw: object, flags: list[str]) -> Quantity:
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        raise missing("quantity")
    value: object = raw
    if isinstance(raw, str):
        text = unicodedata.normalize("NFKC", check_text(raw, "quantity")).strip()
        if _QUANTITY_TEXT.fullmatch(text):
            value = Decimal(text)
            flags.append("number_as_text")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InvalidMessage("quantity_type", f"quantity is {excerpt(raw)}; a number is needed")
    if value < 0:
        raise InvalidMessage("unsupported", f"quantity is {excerpt(raw)}; refunds are not counted")
    if value > MAX_QUANTITY:
        raise InvalidMessage("quantity_range", f"quantity {excerpt(raw)}; at most {MAX_QUANTITY}")
    if isinstance(value, int):
        return value
    rounded = without_noise(value, QUANTITY_DECIMALS)
    if rounded != value:
        flags.append("amount_float_noise")
    if rounded != round(rounded, QUANTITY_DECIMALS):
        problem = f"quantity is {excerpt(raw)}; at most {QUANTITY_DECIMALS} decimals"
        raise InvalidMessage("quantity_precision", problem)
    return _simplest(rounded)


def _simplest(quantity: Quantity) -> Quantity:
    """Return a quantity without trailing zeros, as an int where it is whole."""
    return int(quantity) if quantity == int(quantity) else Decimal(quantity).normalize()


def _is_negative(raw: object) -> bool:
    if isinstance(raw, str):
        text = unicodedata.normalize("NFKC", raw[:200]).strip()
        return _NEGATIVE_TEXT.search(text) is not None
    return isinstance(raw, int | Decimal) and not isinstance(raw, bool) and raw < 0


def _read_amount(
    raw: object, currency_field: object, default_currency: str, flags: list[str]
) -> Price | None:
    if isinstance(raw, str):
        flags.append("number_as_text")
    if not isinstance(raw, Decimal):
        return parse_price(raw, currency_field, default_currency)
    # Zero is an amount in every currency, so its price tells the currency alone.
    zero = parse_price(0, currency_field, default_currency)
    currency = zero.currency if zero else ""
    rounded = without_noise(raw, currency_exponent(currency))
    if rounded != raw:
        flags.append("amount_float_noise")
    return parse_price(rounded, currency, default_currency)
