"""Signs, words and codes -> the currencies that they may mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.messages.cldr import codes_of_sign, fold
from product_consumer.messages.currency_marks import (
    belongs_to,
    find_mark,
    known_mark,
)
from product_consumer.money import EXPONENTS


def codes_of_symbol(text: str) -> frozenset[str]:
    mark = known_mark(text) or find_mark(text)
    return mark.codes if mark else frozenset()


CODES = st.sampled_from(sorted(EXPONENTS))


@given(CODES)
def test_a_code_stands_for_itself_in_any_case(code: str) -> None:
    assert codes_of_symbol(code) == codes_of_symbol(code.lower()) == frozenset((code,))


@pytest.mark.parametrize(
    "mark", ["$", "US$", "¥", "£", "€", "₫", "kr", "Rs", "元", "円", "VNĐ", "zł", "R$", "RD$", "S/"]
)
def test_a_mark_stands_for_currencies_of_iso_4217(mark: str) -> None:
    codes = codes_of_symbol(mark)
    assert codes
    assert codes <= EXPONENTS.keys()
    assert codes_of_symbol(mark.swapcase()) == codes


@pytest.mark.parametrize("word", ["", "mug", "XAU", "XXX", "EURO€", "€€", "kg", "12"])
def test_what_is_neither_mark_nor_code_stands_for_nothing(word: str) -> None:
    assert codes_of_symbol(word) == frozenset()


@pytest.mark.parametrize(
    ("mark", "code"),
    [
        *(("US$", "USD"), ("US $", "USD"), ("$US", "USD"), ("$ CA", "CAD"), ("AU $", "AUD")),
        *(
            ("CAD$", "CAD"),
            ("U$S", "USD"),
            ("$U", "UYU"),
            ("RD$", "DOP"),
            ("EG£", "EGP"),
            ("E£", "EGP"),
        ),
        *(("JP¥", "JPY"), ("ر.س.", "SAR"), ("S/", "PEN"), ("B/.", "PAB"), ("Kč", "CZK")),
        *(("人民币", "CNY"), ("сўм", "UZS"), ("so\u2018m", "UZS"), ("රු.", "LKR"), ("F CFA", "XOF")),
        *(("Canadian dollars", "CAD"), ("dollars canadiens", "CAD"), ("долларов США", "USD")),
    ],
)
def test_signs_and_names_of_many_places_are_known(mark: str, code: str) -> None:
    assert code in codes_of_symbol(mark)


@pytest.mark.parametrize(
    ("mark", "plain"),
    [
        ("VN\u00d0", "VNĐ"),
        ("\u0420LN", "PLN"),
        ("U\u0410\u041d", "UAH"),
        ("p\u0443\u0431", "руб"),
        ("\uff04", "$"),
        ("\u20a4", "£"),
    ],
)
def test_letters_that_look_alike_make_the_same_mark(mark: str, plain: str) -> None:
    assert codes_of_symbol(mark) == codes_of_symbol(plain) != frozenset()


@pytest.mark.parametrize("mark", ["top", "Try", "all", "pen", "L", "G", "DA"])
def test_a_word_or_letter_that_is_also_a_mark_is_not_certain(mark: str) -> None:
    found = known_mark(mark) or find_mark(mark)
    assert found is not None
    assert not found.certain


@pytest.mark.parametrize(
    ("text", "currency", "expected"),
    [
        *(("R", "ZAR", True), ("R", "BRL", False), ("g", "HTG", False), ("G", "HTG", True)),
        *(("dollars", "AUD", True), ("Kanadische", "CAD", True), ("euros", "USD", False)),
        ("сум", "RUB", True),
    ],
)
def test_a_text_belongs_to_a_currency_that_some_language_writes_so(
    text: str, currency: str, expected: bool
) -> None:
    assert belongs_to(text, currency) is expected


@pytest.mark.parametrize("sign", ["$", "£", "¥", "kr", "Rs", "元", "lei", "fr", "руб", "₩", "C$"])
def test_a_shared_sign_is_that_of_every_currency_which_some_locale_writes_so(sign: str) -> None:
    assert codes_of_sign(fold(sign)) <= codes_of_symbol(sign)
