"""Random orders as a shop would send them, from a seed: for trying things out and for tests.

The same seed, count and last day always give the same messages, byte for byte.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any

from product_consumer.money import currency_exponent, to_major

_PRODUCTS = 300
_PAYMENT_METHODS = ("CreditCard", "DebitCard", "PayPal", "BankTransfer", "CashOnDelivery")
_STREETS = ("Main St", "Oak Ave", "Nguyen Hue", "Le Loi", "High St", "Station Rd")
_CITIES = ("Springfield", "Riverton", "Ho Chi Minh City", "Ha Noi", "Da Nang", "Lakeside")
# Orders by hour of the day (UTC): few at night, most in the evening.
_HOURS = (1, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 11, 12, 11, 10, 9, 9, 10, 13, 16, 17, 14, 8, 3)
_BASKET_SIZES, _BASKET_WEIGHTS = (1, 2, 3, 4, 5, 6), (34, 28, 18, 10, 6, 4)


@dataclass(frozen=True, slots=True)
class Producer:
    """Generator of order messages. Shares are from 0 to 1, of all orders."""

    seed: int
    last_day: date
    users: int = 500
    days: int = 30
    currency: str = "USD"
    bad_share: float = 0.02
    """Orders that can never be counted: wrong sums, missing fields, broken JSON."""
    untidy_share: float = 0.05
    """Orders that are counted once they are cleaned: spaces, nulls, numbers as text."""

    def messages(self, count: int) -> Iterator[str]:
        """Yield ``count`` message bodies."""
        rng = random.Random(self.seed)  # noqa: S311 - repeatable on purpose
        # A few customers order much, most order seldom: the n-th weighs 1/n.
        weights = list(accumulate(1 / rank for rank in range(1, self.users + 1)))
        prices = [self._price(rng) for _ in range(_PRODUCTS)]
        for number in range(count):
            order = self._order(rng, number, weights, prices)
            kind = rng.random()
            if kind < self.bad_share:
                yield rng.choice(_SPOILERS)(order)
            elif kind < self.bad_share + self.untidy_share:
                rng.choice(_UNTIDIERS)(order)
                yield _json(order)
            else:
                yield _json(order)

    def _order(
        self, rng: random.Random, number: int, weights: list[float], prices: list[int]
    ) -> dict[str, Any]:
        [user] = rng.choices(range(self.users), cum_weights=weights)
        [size] = rng.choices(_BASKET_SIZES, _BASKET_WEIGHTS)
        lines = [
            (product, rng.choices((1, 2, 3), (80, 15, 5))[0])
            for product in rng.sample(range(_PRODUCTS), size)
        ]
        total = sum(prices[product] * quantity for product, quantity in lines)
        return {
            "order_id": f"ORD{self.seed * 10_000_000 + number}",
            "user_id": f"U{1000 + user}",
            "order_timestamp": self._moment(rng).isoformat().replace("+00:00", "Z"),
            "order_value": to_major(total, self.currency),
            "currency": self.currency,
            "items": [
                {
                    "product_id": f"P{product + 1:03d}",
                    "quantity": quantity,
                    "price_per_unit": to_major(prices[product], self.currency),
                }
                for product, quantity in lines
            ],
            "shipping_address": f"{rng.randint(1, 250)} {rng.choice(_STREETS)}, "
            f"{rng.choice(_CITIES)}",
            "payment_method": rng.choice(_PAYMENT_METHODS),
        }

    def _price(self, rng: random.Random) -> int:
        """Return minor units; most prices are below 50 major units of a currency with cents."""
        minor = int(rng.lognormvariate(7.6, 0.9)) + 99
        return minor if currency_exponent(self.currency) else minor * 100

    def _moment(self, rng: random.Random) -> datetime:
        day = self.last_day - timedelta(days=rng.randrange(self.days))
        # Weekends are busier: some orders of a weekday move to the Saturday before it.
        if day.weekday() < 5 and rng.random() < 0.15:
            day -= timedelta(days=day.weekday() + 2)
        [hour] = rng.choices(range(24), _HOURS)
        midnight = datetime.combine(day, time(), tzinfo=UTC)
        return midnight + timedelta(hours=hour, seconds=rng.randrange(3600))


def _json(order: dict[str, Any]) -> str:
    """Return JSON with amounts as plain numbers, exactly as they are in decimal."""
    return json.dumps(order, ensure_ascii=False, default=_number)


def _number(value: object) -> float:
    if isinstance(value, Decimal):
        # The shortest text of a double gives back a decimal of up to 15 digits unchanged.
        return float(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _spoiled(**changes: Any) -> Callable[[dict[str, Any]], str]:
    return lambda order: _json(order | changes)


def _without(field: str) -> Callable[[dict[str, Any]], str]:
    return lambda order: _json({name: value for name, value in order.items() if name != field})


def _wrong_sum(order: dict[str, Any]) -> str:
    return _json(order | {"order_value": order["order_value"] + 1})


def _truncated(order: dict[str, Any]) -> str:
    return _json(order)[:40]


_SPOILERS: tuple[Callable[[dict[str, Any]], str], ...] = (
    _wrong_sum,
    _truncated,
    _without("order_id"),
    _without("user_id"),
    _spoiled(items=[]),
    _spoiled(user_id="U1000:admin"),
    _spoiled(order_value=-5),
    _spoiled(order_timestamp="2026-02-30"),
)


def _spaces(order: dict[str, Any]) -> None:
    order["user_id"] = f"  {order['user_id'].lower()} "
    order["payment_method"] = f" {order['payment_method'].upper()}"


def _null_item(order: dict[str, Any]) -> None:
    order["items"].append(None)


def _zero_quantity(order: dict[str, Any]) -> None:
    order["items"].append({"product_id": "P999", "quantity": 0, "price_per_unit": 1})


def _split_line(order: dict[str, Any]) -> None:
    first = order["items"][0]
    order["items"].append(first | {"quantity": 1})
    order["order_value"] += first["price_per_unit"]


def _numbers_as_text(order: dict[str, Any]) -> None:
    order["order_value"] = str(order["order_value"])
    order["items"][0]["quantity"] = str(order["items"][0]["quantity"])


_UNTIDIERS: tuple[Callable[[dict[str, Any]], None], ...] = (
    _spaces,
    _null_item,
    _zero_quantity,
    _split_line,
    _numbers_as_text,
)
