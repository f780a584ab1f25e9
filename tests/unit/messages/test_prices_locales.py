"""Amounts as every locale of CLDR writes them, read back with the currency in the field."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from babel import Locale, localedata
from babel.numbers import format_currency, get_territory_currencies
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.messages.cldr import decimals_in_use
from product_consumer.messages.prices import Price, parse_price
from product_consumer.money import EXPONENTS, currency_exponent

LOCALES = sorted(localedata.locale_identifiers())
AMOUNTS = [Decimal(text) for text in ("1149", "24.5", "1234567.89", "145000", "3.125", "2500")]
# One locale for each way to write: scripts, digits, sides, separators, marks.
SAMPLE = [
    *("ar_EG", "ar_SA", "ar_TN", "bn_BD", "de_AT", "de_CH", "en_IN", "en_ZA", "es_BO", "es_CO"),
    *("es_CR", "es_DO", "es_PE", "fa_IR", "fr_CA", "fr_CH", "fr_CM", "fr_TN", "he_IL", "hi_IN"),
    *("id_ID", "ja_JP", "km_KH", "ko_KR", "lo_LA", "ne_NP", "pt_BR", "ru_BY", "si_LK", "sv_SE"),
    *("th_TH", "uz_Latn_UZ", "vi_VN", "zh_Hant_TW"),
]


def currencies_of(locale: Locale) -> list[str]:
    codes = get_territory_currencies(locale.territory) if locale.territory else []
    return [code for code in codes if code in EXPONENTS]


def formatted(name: str, code: str, amount: Decimal) -> Iterator[tuple[str, Decimal]]:
    """The texts of an amount: sign and name, in Latin digits and in those of the locale."""
    locale = Locale.parse(name)
    decimals = min(decimals_in_use(code), currency_exponent(code))
    rounded = amount.quantize(Decimal(1).scaleb(-decimals))
    for form in ("standard", "name"):
        for digits in {"latn", locale.default_numbering_system}:
            if digits in locale.number_symbols:
                yield (
                    format_currency(
                        rounded, code, locale=locale, numbering_system=digits, format_type=form
                    ),
                    rounded,
                )


def is_read(text: str, amount: Decimal, code: str) -> bool:
    """Tell whether the amount was read; False for a refusal. Another price fails the test."""
    try:
        price = parse_price(text, code, "VND")
    except InvalidMessage:
        return False
    assert price == Price(int(amount.scaleb(currency_exponent(code))), code), text
    return True


def share_read(names: list[str]) -> float:
    read = [
        is_read(text, amount, code)
        for name in names
        for code in currencies_of(Locale.parse(name))
        for whole in AMOUNTS
        for text, amount in formatted(name, code, whole)
    ]
    return sum(read) / len(read)


def test_nearly_all_amounts_of_a_sample_of_locales_are_read_and_none_is_wrong() -> None:
    assert share_read(SAMPLE) >= 0.97


@pytest.mark.soak
def test_nearly_all_amounts_of_all_locales_are_read_and_none_is_wrong() -> None:
    assert share_read(LOCALES) >= 0.99


@given(st.sampled_from(SAMPLE), st.decimals(0, 10**12, places=3), st.data())
def test_an_amount_in_a_locale_of_its_currency_is_read_or_refused(
    name: str, amount: Decimal, data: st.DataObject
) -> None:
    code = data.draw(st.sampled_from(currencies_of(Locale.parse(name))))
    for text, rounded in formatted(name, code, amount):
        is_read(text, rounded, code)
