"""What stands beside the number of a price."""

import pytest

from product_consumer.errors import InvalidMessage
from product_consumer.messages.price_words import read_words


def codes(side: str, currency: str = "") -> list[str]:
    marks = read_words(side, side, is_behind=False, currency=currency)
    return ["/".join(sorted(mark.codes)) for mark in marks]


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ("", []),
        ("Giá:", []),
        ("US$ only", ["USD"]),
        ("US $", ["USD"]),
        ("nt$", ["TWD"]),
        ("Giá: ₫/cái", ["VND"]),
        ("€ * (incl. VAT)", ["EUR"]),
        ("USD €", ["USD", "EUR"]),
        ("Our price: Mexican pesos", ["MXN"]),
        ("P.V.P. €", ["EUR"]),
    ],
)
def test_the_longest_marks_count_and_labels_are_passed_over(side: str, expected: list[str]):
    assert codes(side) == expected


def test_a_sign_that_other_currencies_have_is_that_of_the_field_where_a_locale_writes_it_so():
    assert codes("R", "ZAR") == ["ZAR"]
    assert codes("сум", "RUB") == ["RUB"]
    assert codes("сум") == ["UZS"]


@pytest.mark.parametrize(
    ("side", "is_behind", "reason"),
    [
        ("only a $", False, "price_invalid"),
        ("a $", False, "price_invalid"),
        ("K", True, "price_invalid"),
        ("M LSL", True, "price_invalid"),
        ("triệu", True, "price_invalid"),
        ("/month", True, "price_invalid"),
        ("+", True, "price_invalid"),
        ("ZZZ", False, "currency_unknown"),
        ("from", False, "price_ambiguous"),
        ("a partire da €", False, "price_ambiguous"),
        ("toman", True, "price_ambiguous"),
    ],
)
def test_any_other_word_is_refused(side: str, is_behind: bool, reason: str):
    with pytest.raises(InvalidMessage) as caught:
        read_words(side, side, is_behind=is_behind, currency="")
    assert caught.value.reason == reason
