"""Which separators of a number group, and which one is decimal."""

from decimal import Decimal

import pytest

from product_consumer.errors import InvalidMessage
from product_consumer.messages.price_numbers import NUMBER, WrittenNumber, read_amount


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Rs.500", ["500"]),
        ("$.75", [".75"]),
        ("B/.74.90", ["74.90"]),
        ("රු.500.00", ["500.00"]),
        ("1 299 000", ["1 299 000"]),
        ("12 34", ["12", "34"]),
        ("12 - 15", ["12", "15"]),
        ("none", []),
    ],
)
def test_numbers_are_found_without_what_belongs_to_the_word_before(text: str, numbers: list[str]):
    assert NUMBER.findall(text) == numbers


@pytest.mark.parametrize(
    ("digits", "no_cents", "currency", "amount"),
    [
        ("1.299", "", "VND", "1299"),
        ("1.299", "", "BRL", "1299"),
        ("1,299", "", "USD", "1299"),
        ("1.299", "", "KWD", "1.299"),
        ("1.299", ",", "EUR", "1299"),
        ("1.299", "/", "EUR", "1299"),
        ("1.299,50", "", "USD", "1299.50"),
        ("2,345,678.120", "", "USD", "2345678.120"),
        ("1,29,900.00", "", "INR", "129900.00"),
        (".75", "", "USD", "0.75"),
        ("1299,500", "", "EUR", "1299.500"),
        ("1'299\u066b500", "", "KWD", "1299.500"),
        ("1 299,500", "", "KWD", "1299.500"),
    ],
)
def test_an_amount_has_one_reading_by_the_custom_of_its_currency(
    digits: str, no_cents: str, currency: str, amount: str
):
    assert read_amount(WrittenNumber(digits, no_cents, digits), currency) == Decimal(amount)


@pytest.mark.parametrize(
    ("digits", "currency", "reason"),
    [
        ("1.299", "EUR", "price_ambiguous"),
        ("1.000", "USD", "price_ambiguous"),
        ("1,000", "JOD", "price_ambiguous"),
        ("35\u066b000", "IQD", "price_ambiguous"),
        ("1 299.000", "VND", "price_ambiguous"),
        ("1.2.3", "USD", "price_invalid"),
        ("0,299,000", "USD", "price_invalid"),
    ],
)
def test_a_number_with_two_readings_or_none_is_refused(digits: str, currency: str, reason: str):
    with pytest.raises(InvalidMessage) as caught:
        read_amount(WrittenNumber(digits, "", digits), currency)
    assert caught.value.reason == reason
