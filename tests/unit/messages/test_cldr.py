"""What is taken from CLDR: separators, decimals in use, signs and names."""

import pytest
from babel import Locale

from product_consumer.messages.cldr import (
    Separators,
    codes_of_name,
    codes_of_sign,
    decimals_in_use,
    fold,
    is_word_of_name,
    separators_of,
)
from product_consumer.money import EXPONENTS, currency_exponent


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [
        *(("IQD", 0), ("IDR", 0), ("LAK", 0), ("HUF", 0), ("COP", 0), ("VND", 0)),
        *(("USD", 2), ("CZK", 2), ("KWD", 3), ("BHD", 3), ("JOD", 3), ("OMR", 3), ("TND", 3)),
    ],
)
def test_decimals_in_use_are_those_that_people_write(currency: str, decimals: int) -> None:
    assert decimals_in_use(currency) == decimals


def test_no_currency_has_more_decimals_in_use_than_it_has() -> None:
    assert all(decimals_in_use(code) <= currency_exponent(code) for code in EXPONENTS)


@pytest.mark.parametrize(
    "currency",
    [
        *("AED", "AUD", "BDT", "CAD", "CNY", "DOP", "EGP", "GBP", "HKD", "ILS", "INR", "KES"),
        *("KHR", "KWD", "LKR", "MNT", "MXN", "MYR", "NGN", "NPR", "NZD", "PEN", "PHP", "PKR"),
        *("QAR", "SAR", "SGD", "THB", "TWD", "TZS", "USD"),
    ],
)
def test_a_comma_groups_where_a_point_is_decimal(currency: str) -> None:
    separators = separators_of(currency)
    assert separators.grouping == {","}
    assert separators.decimal == {"."}


@pytest.mark.parametrize(
    "currency", ["ARS", "BRL", "DKK", "IDR", "RON", "RSD", "TND", "TRY", "VND"]
)
def test_a_point_groups_where_a_comma_is_decimal(currency: str) -> None:
    separators = separators_of(currency)
    assert "." in separators.grouping
    assert separators.decimal == {","}


@pytest.mark.parametrize("currency", ["EUR", "CHF", "SEK", "PLN", "CZK", "RUB", "XAF", "XAD"])
def test_neither_point_nor_comma_groups_where_places_differ_or_use_spaces(currency: str) -> None:
    assert separators_of(currency).grouping.isdisjoint((".", ","))


def test_a_minority_counts_where_both_readings_have_three_decimals() -> None:
    # Most people of Jordan group with a comma; for some it is the decimal sign.
    assert separators_of("JOD") == Separators(frozenset(), frozenset("."))


def test_no_sign_both_groups_and_is_decimal() -> None:
    for currency in EXPONENTS:
        separators = separators_of(currency)
        assert separators.grouping.isdisjoint(separators.decimal), currency


def test_every_sign_and_name_of_a_locale_is_found() -> None:
    for name in ("ar_SA", "fr_CM", "zh_Hans_CN"):
        locale = Locale.parse(name)
        for code in EXPONENTS:
            sign, called = locale.currency_symbols.get(code), locale.currencies.get(code)
            assert not sign or sign == code or code in codes_of_sign(fold(sign)) or not fold(sign)
            assert not called or code in codes_of_name(fold(called))
            assert not called or all(
                is_word_of_name(fold(word), code) for word in called.split() if len(fold(word)) > 1
            )
