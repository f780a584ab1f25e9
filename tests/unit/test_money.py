"""Minor units of a currency, and amounts as people and stores read them."""

from decimal import Decimal

import pytest

from product_consumer.errors import InvalidMessage
from product_consumer.money import (
    currency_exponent,
    format_price,
    money_text,
    price_as_double,
    to_major,
    without_noise,
)


@pytest.mark.parametrize(
    ("code", "exponent"), [("VND", 0), ("JPY", 0), ("USD", 2), ("IDR", 2), ("KWD", 3), ("CLF", 4)]
)
def test_exponents_are_those_of_iso_4217(code, exponent):
    assert currency_exponent(code) == exponent


@pytest.mark.parametrize("code", ["ZZZ", "XAU", "XXX", "vnd", ""])
def test_a_code_without_minor_units_is_unknown(code):
    with pytest.raises(InvalidMessage, match="currency_unknown"):
        currency_exponent(code)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (1299000, "VND", "1,299,000 VND"),
        (129900, "USD", "1,299.00 USD"),
        (5, "KWD", "0.005 KWD"),
        (0, "EUR", "0.00 EUR"),
        (2**63 - 1, "USD", "92,233,720,368,547,758.07 USD"),
    ],
)
def test_a_price_is_written_for_people_in_major_units(minor, currency, text):
    assert format_price(minor, currency) == text


def test_major_units_are_exact():
    assert to_major(1999, "USD") == Decimal("19.99")
    assert to_major(1299000, "VND") == 1299000


@pytest.mark.parametrize(
    ("minor", "currency", "price"),
    [(1999, "USD", 19.99), (1_299_000, "VND", 1_299_000.0), (0, "EUR", 0.0), (None, None, None)],
)
def test_stores_hold_the_nearest_double(minor, currency, price):
    assert price_as_double(minor, currency) == price


def test_a_stored_price_outlives_its_currency():
    assert to_major(1999, "DEM") == Decimal("19.99")


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(19998, "USD", "199.98"), (0, "USD", "0.00"), (1200, "VND", "1200"), (5, "KWD", "0.005")],
)
def test_money_has_the_decimals_of_its_currency(minor, currency, text):
    assert money_text(minor, currency) == text


@pytest.mark.parametrize(
    ("amount", "exponent", "cleaned"),
    [
        ("24.990000000000002", 2, "24.99"),
        ("1549.8999999999999", 2, "1549.90"),
        ("59.96999999999999", 2, "59.97"),
        ("24.99001", 2, "24.99001"),
        ("100000000000.001", 2, "100000000000.001"),
        ("0", 2, "0"),
        ("1e-17", 2, "1e-17"),
    ],
)
def test_only_the_noise_of_doubles_is_rounded_away(amount, exponent, cleaned):
    assert without_noise(Decimal(amount), exponent) == Decimal(cleaned)
