"""Which currency a price is in: by its own marks, then by its field, then by the default."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.messages.currencies import (
    COMMA_IS_DECIMAL,
    POINT_IS_DECIMAL,
    SYMBOL_OR_WORD,
    choose_currency,
    codes_of_symbol,
)
from product_consumer.money import EXPONENTS, currency_exponent

CODES = st.sampled_from(sorted(EXPONENTS))
MARKS = ["$", "US$", "¥", "£", "€", "₫", "kr", "Rs", "元", "円", "VNĐ", "zł", "R$"]
DOLLARS = codes_of_symbol("$")


def refusal(*marks: str, field: object = None, default: str = "") -> str:
    with pytest.raises(InvalidMessage) as caught:
        choose_currency([codes_of_symbol(mark) for mark in marks], field, default)
    return caught.value.reason


def chosen(*marks: str, field: object = None, default: str = "") -> str:
    return choose_currency([codes_of_symbol(mark) for mark in marks], field, default)


@given(CODES)
def test_a_code_stands_for_itself_in_any_case(code: str) -> None:
    assert codes_of_symbol(code) == codes_of_symbol(code.lower()) == frozenset((code,))
    assert chosen(field=f" {code.lower()} ") == code


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_stands_for_currencies_of_iso_4217(mark: str) -> None:
    codes = codes_of_symbol(mark)
    assert codes
    assert codes <= EXPONENTS.keys()
    assert codes_of_symbol(mark.swapcase()) == codes


@pytest.mark.parametrize("word", ["", "mug", "XAU", "XXX", "EURO€", "€€"])
def test_what_is_neither_mark_nor_code_stands_for_nothing(word: str) -> None:
    assert codes_of_symbol(word) == frozenset()


@pytest.mark.parametrize(("mark", "code"), [("$", "USD"), ("¥", "JPY"), ("£", "GBP")])
def test_a_shared_sign_means_its_usual_currency(mark: str, code: str) -> None:
    assert chosen(mark) == code
    assert chosen(mark, default="VND") == code


@given(st.sampled_from(sorted(DOLLARS)))
def test_the_field_settles_which_dollar_it_is(code: str) -> None:
    assert chosen("$", field=code) == code


@pytest.mark.parametrize(("mark", "default"), [("kr", "NOK"), ("Rs", "PKR"), ("元", "TWD")])
def test_a_mark_without_a_usual_meaning_takes_the_default_that_it_may_mean(
    mark: str, default: str
) -> None:
    assert chosen(mark, default=default) == default
    assert refusal(mark, default="VND") == "currency_unknown"


def test_two_marks_together_mean_what_both_may_mean() -> None:
    assert chosen("元", "CN¥") == "CNY"
    assert chosen("US$", "$") == "USD"


@pytest.mark.parametrize(
    ("marks", "field"), [(["€"], "USD"), (["$", "₫"], None), (["kr"], "EUR"), (["R$"], "USD")]
)
def test_marks_and_field_that_exclude_each_other_are_a_mismatch(
    marks: list[str], field: str | None
) -> None:
    assert refusal(*marks, field=field, default="VND") == "currency_mismatch"


@pytest.mark.parametrize("field", [None, ""])
def test_without_mark_or_field_the_default_counts(field: str | None) -> None:
    assert chosen(field=field, default="VND") == "VND"
    assert refusal(field=field) == "currency_unknown"


@pytest.mark.parametrize("field", ["dollars of gold", "XAU", 840, True, ["USD"]])
def test_a_field_that_names_no_currency_is_refused_even_beside_a_default(field: object) -> None:
    assert refusal(field=field, default="VND") == "currency_unknown"


@given(st.lists(st.sampled_from(MARKS), min_size=1, max_size=3), st.none() | CODES, CODES)
def test_the_chosen_currency_is_one_that_every_mark_and_the_field_allow(
    marks: list[str], field: str | None, default: str
) -> None:
    try:
        code = chosen(*marks, field=field, default=default)
    except InvalidMessage as error:
        assert error.reason in {"currency_mismatch", "currency_unknown"}
    else:
        assert all(code in codes_of_symbol(mark) for mark in marks)
        assert field is None or code == field


@given(CODES)
def test_a_currency_has_none_to_four_decimals(code: str) -> None:
    assert 0 <= currency_exponent(code) <= 4


@pytest.mark.parametrize("code", ["", "usd", "XAU", "XTS", "Dollar"])
def test_what_is_no_code_of_a_currency_has_no_decimals(code: str) -> None:
    with pytest.raises(InvalidMessage, match="currency_unknown"):
        currency_exponent(code)


def test_a_currency_writes_its_decimals_in_one_way_at_most() -> None:
    for one, other in combinations((POINT_IS_DECIMAL, COMMA_IS_DECIMAL), 2):
        assert one.isdisjoint(other)
        assert one | other <= EXPONENTS.keys()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("US$ only", ["US$", "only"]),
        ("nt$", ["nt$"]),
        ("Giá: ₫/cái", ["Giá", ":", "₫", "/", "cái"]),
        ("-€", ["-", "€"]),
        (" ", []),
    ],
)
def test_text_is_split_into_marks_words_and_signs(text: str, tokens: list[str]) -> None:
    assert SYMBOL_OR_WORD.findall(text) == tokens
