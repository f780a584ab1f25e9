"""Redaction: descriptions of orders and products that may leave the process for a language model.

- Of an order leave amounts, quantities, days and usual values, but no text. Users and products are
  numbered. Address, payment method and ids stay here: an id may hold a name or an instruction.
- Of a product leave its name, brand, category and description. They are public, and anything that
  looks like a person's data is taken out first.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from product_consumer.models import Product
from product_consumer.money import money_text
from product_consumer.orders.models import Order
from product_consumer.quality.models import QualityFlag
from product_consumer.quality.rules import ProductUse

REDACTED = "[redacted]"
MAX_TEXT_CHARACTERS = 500
MAX_ITEMS = 50
"""Lines of an order that are described; the others are only counted."""

_EMAIL = re.compile(r"[^\s@<>\"',;()]{1,64}@[^\s@<>\"',;()]{1,255}")
_URL = re.compile(r"(?:https?://|www\.)\S{1,500}", re.IGNORECASE)
# Telephone, card and account numbers: seven digits or more with the usual separators between.
_LONG_NUMBER = re.compile(r"\+?\(?[0-9](?:[ .()/_-]{0,3}[0-9]){6,30}")
_STREET = re.compile(
    r"\b[0-9]{1,5}[A-Za-z]?(?:/[0-9]{1,5})?,?\s+(?:[^\W\d_][\w.'-]{0,30}\s+){1,4}"
    r"(?:st|street|ave|avenue|rd|road|blvd|boulevard|ln|lane|dr|drive|way|court|ct|square|sq)\b"
    r"[^\n;|]{0,100}",
    re.IGNORECASE,
)
_STREET_FIRST = re.compile(
    r"\b(?:đường|phố|ngõ|hẻm|quận|phường|rue|calle|via|straße|strasse)\s+[^\n;|]{1,100}",
    re.IGNORECASE,
)
_TITLED_NAME = re.compile(
    r"\b(?:mr|mrs|ms|dr|prof|herr|frau|ông|bà|mme|monsieur|madame)\b\.?"
    r"(?:\s+[^\W\d_][\w'-]{0,30}){1,3}",
    re.IGNORECASE,
)
_PERSONAL = (_URL, _EMAIL, _LONG_NUMBER, _STREET, _STREET_FIRST, _TITLED_NAME)


def redact(text: str) -> str:
    """Return printable text without personal data, cut at ``MAX_TEXT_CHARACTERS``.

    Personal is anything that looks like an e-mail or web address, telephone or card number, street
    address or titled name.
    """
    # A model reads full-width digits and signs as the plain ones.
    plain = unicodedata.normalize("NFKC", text[: 4 * MAX_TEXT_CHARACTERS])
    plain = "".join(_plain_character(character) for character in plain)
    for pattern in _PERSONAL:
        plain = pattern.sub(REDACTED, plain)
    return " ".join(plain.split())[:MAX_TEXT_CHARACTERS]


def order_document(
    order: Order,
    values: Sequence[int],
    uses: Mapping[tuple[str, str], ProductUse],
    flags: Sequence[QualityFlag],
) -> dict[str, Any]:
    """Describe an order without any of its text.

    ``values``: the user's recent order values, in minor units of the order's currency.
    """
    items = []
    numbers: dict[str, int] = {}
    for item in order.items[:MAX_ITEMS]:
        use = uses.get((item.product_id, order.currency))
        usual = None if use is None else money_text(round(use.mean_unit_minor), order.currency)
        items.append(
            {
                "product": f"product {numbers.setdefault(item.product_id, len(numbers) + 1)}",
                "quantity": item.json_quantity,
                "unit_price": money_text(item.unit_minor, order.currency),
                "usual_unit_price": usual,
                "usual_quantity": None if use is None else round(use.mean_quantity, 1),
            }
        )
    return {
        "kind": "order",
        "value": money_text(order.value_minor, order.currency),
        "currency": order.currency,
        "day": order.day.isoformat(),
        "item_count": len(order.items),
        "items": items,
        "recent_values_of_this_user": [money_text(value, order.currency) for value in values],
        "found_by_rules": [flag.code for flag in flags],
    }


def product_document(product: Product, flags: Sequence[QualityFlag]) -> dict[str, Any]:
    """Describe a product; ids and links stay here."""
    price = None
    if product.price_minor is not None and product.currency is not None:
        price = money_text(product.price_minor, product.currency)
    return {
        "kind": "product",
        "name": redact(product.name),
        "brand": redact(product.brand or ""),
        "category": redact(product.category or ""),
        "description": redact(product.description or ""),
        "price": price,
        "currency": product.currency,
        "rating": product.rating,
        "reviews_count": product.reviews_count,
        "found_by_rules": [flag.code for flag in flags],
    }


def _plain_character(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    # An invisible character would split a number that a reader sees in one piece.
    if unicodedata.category(character) == "Cf":
        return ""
    return character if character.isprintable() else " "
