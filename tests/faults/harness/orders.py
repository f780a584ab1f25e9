"""The messages of the order queue, and the totals that they must make.

The model adds up decimals in plain Python, order by order; it shares no code with the worker.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

DEFAULT_CURRENCY = "VND"
DECIMALS = {"USD": 2, "EUR": 2, "VND": 0}
CONFLICT = "order_conflict"
_FIRST_DAY = date(2024, 12, 1)
_DAYS = 10

POISON: dict[str, dict[str, Any] | str] = {
    "json_invalid": '{"order_id": "half',
    "missing:order_id": {"order_id": None},
    "id_invalid": {"user_id": "a:b"},
    "order_total": {"order_value": 1.5},
    "unsupported": {"order_value": -20},
    "wrong_kind": '{"id": "p", "name": "x", "price": 1, "image_url": "https://a.example/1.png"}',
}
"""Orders that can never count, by the reason: a whole body, or changes that spoil a good body."""


@dataclass(frozen=True, slots=True)
class SentOrder:
    """One message as its producer knows it.

    ``poison``: the reason that it must be rejected with; the other fields are empty then.
    ``spend``: in whole units of the currency.
    """

    body: str
    poison: str = ""
    order_id: str = ""
    user_id: str = ""
    day: date = _FIRST_DAY
    spend: Decimal = Decimal(0)
    currency: str = ""

    @property
    def minor(self) -> int:
        """``spend`` in the currency's minor unit."""
        return int(self.spend.scaleb(DECIMALS[self.currency]))


@dataclass(slots=True)
class Total:
    """A number of orders and their sum, in whole units of the currency."""

    count: int = 0
    spend: Decimal = Decimal(0)

    def add(self, spend: Decimal) -> None:
        self.count += 1
        self.spend += spend


@dataclass(slots=True)
class Totals:
    """Every total of a set of distinct orders."""

    users: dict[tuple[str, str], Total] = field(default_factory=lambda: defaultdict(Total))
    """By user and currency."""
    days: dict[tuple[str, str], Total] = field(default_factory=lambda: defaultdict(Total))
    """By ISO date and currency."""
    users_days: dict[tuple[str, str, str], Total] = field(
        default_factory=lambda: defaultdict(Total)
    )
    everyone: dict[str, Total] = field(default_factory=lambda: defaultdict(Total))
    """By currency."""


def totals(orders: Iterable[SentOrder]) -> Totals:
    """The sequential model: each order is added once to each of its totals."""
    model = Totals()
    for sent in orders:
        day = sent.day.isoformat()
        for total in (
            model.users[sent.user_id, sent.currency],
            model.days[day, sent.currency],
            model.users_days[sent.user_id, day, sent.currency],
            model.everyone[sent.currency],
        ):
            total.add(sent.spend)
    return model


def order(number: int, users: int, seed: int = 0, **changes: Any) -> SentOrder:
    """One order; its number, the seed and ``changes`` decide everything in it."""
    draw = random.Random(f"{seed}/{number}")
    currency = draw.choice(("USD", "USD", "EUR", "VND"))
    lines = [
        (f"P{draw.randrange(100)}", draw.randrange(1, 5), _price(draw, currency))
        for _ in range(draw.randrange(1, 4))
    ]
    day = _FIRST_DAY + timedelta(days=draw.randrange(_DAYS))
    body: dict[str, Any] = {
        "order_id": f"ORD{seed}-{number}",
        "user_id": f"U{number % users}",
        "order_timestamp": f"{day}T{draw.randrange(24):02d}:59:59Z",
        "items": lines,
        "payment_method": "CreditCard",
        "shipping_address": "1 High St",
    }
    body |= {} if currency == DEFAULT_CURRENCY and draw.random() < 0.5 else {"currency": currency}
    return _sent(body | changes, day, currency)


def poison_order(reason: str, number: int) -> SentOrder:
    """A message that must be rejected with this reason."""
    spoiled = POISON[reason]
    if isinstance(spoiled, str):
        return SentOrder(spoiled, poison=reason)
    good = json.loads(order(number, 1, seed=-1).body)
    return SentOrder(json.dumps(good | {"currency": "USD"} | spoiled), poison=reason)


def order_workload(count: int, seed: int) -> list[SentOrder]:
    """About ``count`` messages of ``count`` / 10 users in random order: 3 % poison, 20 % of the
    rest sent twice, one order in fifty sent with two contents.
    """
    draw = random.Random(seed)
    users = max(1, count // 10)
    messages = [order(number, users, seed) for number in range(count)]
    messages += [
        order(number, users, seed, items=[("P1", 1, Decimal(7))]) for number in range(2, count, 50)
    ]
    messages += draw.sample(messages, len(messages) // 5)
    reasons = list(POISON)
    messages += [
        poison_order(reasons[number % len(reasons)], number)
        for number in range(max(len(reasons), count * 3 // 100))
    ]
    draw.shuffle(messages)
    return messages


def accepted(
    sent: Sequence[SentOrder], stored: Iterable[tuple[str, int]]
) -> tuple[list[SentOrder], list[str]]:
    """Return the distinct orders that were counted, and the problems of this choice.

    ``stored``: (order id, minor units) as the ledger has them. If an id was sent with several
    contents, any of them may have come first. So the ledger decides; its content must be one that
    was sent.
    """
    choices: dict[str, list[SentOrder]] = defaultdict(list)
    for message in sent:
        if not message.poison:
            choices[message.order_id].append(message)
    minor_by_id: dict[str, int] = {}
    problems: list[str] = []
    for order_id, minor in stored:
        minor_by_id[order_id] = minor
        if order_id not in choices:
            problems.append(f"orders: {order_id} was never sent")
    counted: list[SentOrder] = []
    for order_id, contents in choices.items():
        chosen = [content for content in contents if content.minor == minor_by_id.get(order_id)]
        if chosen:
            counted.append(chosen[0])
        elif order_id not in minor_by_id:
            problems.append(f"orders: {order_id} is missing")
            counted.append(contents[0])
        else:
            problems.append(f"orders: {order_id} has {minor_by_id[order_id]}, never sent so")
            counted.append(contents[0])
    return counted, problems


def _sent(body: dict[str, Any], day: date, currency: str) -> SentOrder:
    lines = body["items"]
    spend = sum((quantity * price for _, quantity, price in lines), Decimal(0))
    written = body | {"order_value": float(spend), "items": _items(lines)}
    return SentOrder(
        json.dumps(written),
        order_id=body["order_id"],
        user_id=body["user_id"],
        day=day,
        spend=spend,
        currency=currency,
    )


def _items(lines: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    return [
        {"product_id": product_id, "quantity": quantity, "price_per_unit": float(price)}
        for product_id, quantity, price in lines
    ]


def _price(draw: random.Random, currency: str) -> Decimal:
    if DECIMALS[currency] == 0:
        return Decimal(draw.randrange(1, 900)) * 1000
    return Decimal(draw.randrange(1, 100_000)).scaleb(-DECIMALS[currency])
