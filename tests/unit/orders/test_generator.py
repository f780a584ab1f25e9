"""Generated orders: the same for the same seed, realistic, a share of them to be refused."""

import json
from collections import Counter
from datetime import UTC, date, datetime

import pytest

from product_consumer.errors import InvalidMessage
from product_consumer.orders.generator import Producer
from product_consumer.orders.models import Order
from product_consumer.orders.parser import OrderParser
from tests.support import factories

LAST_DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def producer(seed: int = 1, currency: str = "USD", bad: float = 0.02) -> Producer:
    return Producer(seed=seed, last_day=LAST_DAY, currency=currency, bad_share=bad)


def read(bodies: list[str]) -> tuple[list[Order], list[str]]:
    """Valid orders, and the reasons of the rest."""
    parser = OrderParser(default_currency="USD", source_timezone="UTC")
    orders, reasons = [], []
    for body in bodies:
        try:
            orders.append(parser.parse(factories.message(body), NOW))
        except InvalidMessage as error:
            reasons.append(error.reason)
    return orders, reasons


def test_the_same_seed_gives_the_same_messages() -> None:
    assert list(producer().messages(50)) == list(producer().messages(50))
    assert list(producer().messages(50)) != list(producer(seed=2).messages(50))


def test_more_messages_begin_with_the_same_ones() -> None:
    assert list(producer().messages(20)) == list(producer().messages(50))[:20]


@pytest.mark.parametrize("currency", ["USD", "VND", "KWD"])
def test_all_but_the_bad_share_are_valid(currency: str) -> None:
    orders, reasons = read(list(producer(currency=currency, bad=0.0).messages(500)))

    assert reasons == []
    assert {order.currency for order in orders} == {currency}
    assert len({order.order_id for order in orders}) == 500


def test_a_share_is_bad_in_several_ways_and_a_share_has_to_be_cleaned() -> None:
    orders, reasons = read(list(producer(bad=0.1).messages(2000)))
    flags = {flag for order in orders for flag in order.flags}

    assert 120 < len(reasons) < 280
    assert set(reasons) == {
        "order_total",
        "json_invalid",
        "missing:order_id",
        "missing:user_id",
        "missing:items",
        "id_invalid",
        "unsupported",
        "time_invalid",
    }
    assert {"id_case", "item_null", "item_zero_quantity", "items_merged", "number_as_text"} <= flags


def test_users_baskets_and_days_are_unequal_as_in_a_shop() -> None:
    orders, _ = read(list(producer().messages(2000)))
    by_user = Counter(order.user_id for order in orders)

    assert by_user.most_common(1)[0][1] > 10 * min(by_user.values())
    assert {len(order.items) for order in orders} == {1, 2, 3, 4, 5, 6}
    assert len({order.day for order in orders}) >= 30
    assert max(order.day for order in orders) <= LAST_DAY


def test_messages_are_json_numbers_and_text_only() -> None:
    first = json.loads(next(producer(bad=0.0).messages(1)))

    assert isinstance(first["order_value"], float)
    assert set(first) >= {"order_id", "user_id", "items", "shipping_address", "payment_method"}
