"""Orders for tests: bodies as producers write them, and valid orders."""

import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from product_consumer.orders.models import Order, OrderItem

ORDERED_AT = datetime(2024, 12, 13, 10, 0, tzinfo=UTC)
ABSENT = object()

_numbers = itertools.count(1)


def order_body(**changes: Any) -> dict[str, Any]:
    """The order of the documentation; a field that is ``ABSENT`` is left out."""
    body: dict[str, Any] = {
        "order_id": "ORD1234",
        "user_id": "U5678",
        "order_timestamp": "2024-12-13T10:00:00Z",
        "order_value": 99.99,
        "items": [
            {"product_id": "P001", "quantity": 2, "price_per_unit": 20.00},
            {"product_id": "P002", "quantity": 1, "price_per_unit": 59.99},
        ],
        "shipping_address": "123 Main St, Springfield",
        "payment_method": "CreditCard",
    }
    return {name: value for name, value in (body | changes).items() if value is not ABSENT}


def order_text(**changes: Any) -> str:
    return json.dumps(order_body(**changes), ensure_ascii=False)


def order(**changes: Any) -> Order:
    """A valid order of one item, with an id of its own."""
    number = next(_numbers)
    value = int(changes.get("value_minor", 1000))
    defaults: dict[str, Any] = {
        "order_id": f"ORD{number}",
        "user_id": "U1",
        "ordered_at": ORDERED_AT,
        "value_minor": value,
        "currency": "USD",
        "items": (OrderItem("P001", 1, value),),
        "payload_hash": f"{number:064x}",
    }
    return Order(**(defaults | changes))


def amount(minor: int) -> Decimal:
    return Decimal(minor) / 100
