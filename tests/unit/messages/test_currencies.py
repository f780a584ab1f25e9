"""Which currency a price is in: by its own marks, then by its field, then by the default."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.messages.currencies import choose_currency, read_field
from product_consumer.messages.currency_marks import Mark, find_mark, known_mark
from product_consumer.money import EXPONENTS, currency_exponent

CODES = st.sampled_from(sorted(EXPONENTS))
MARKS = ["$", "US$", "¥", "£", "€", "₫", "kr", "Rs", "元", "円", "VNĐ", "zł", "R$", "L", "lei"]


def mark_of(text: str) -> Mark:
    mark = known_mark(text) or find_mark(text)
    assert mark is not None
    return mark


DOLLARS = mark_of("$").codes


def chosen(*marks: str, field: object = None, default: str = "") -> str:
    return choose_currency([mark_of(mark) for mark in marks], read_field(field), default)


def refusal(*marks: str, field: object = None, default: str = "") -> str:
    with pytest.raises(InvalidMessage) as caught:
        chosen(*marks, field=field, default=default)
    return caught.value.reason


@given(CODES)
def test_a_field_names_a_code_in_any_case(code: str) -> None:
    assert chosen(field=f" {code.lower()} ") == code


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("₫", "VND"),
        ("VN\u00d0", "VND"),
        ("vn\u0189", "VND"),
        ("&euro;", "EUR"),
        ("&#8363;", "VND"),
        ("\u200eر.س.\u200f", "SAR"),
        ("US Dollar", "USD"),
        ("đồng Việt Nam", "VND"),
    ],
)
def test_a_field_may_be_a_sign_or_a_name(field: str, code: str) -> None:
    assert chosen(field=field, default="EUR") == code


@pytest.mark.parametrize(
    ("mark", "code"),
    [("$", "USD"), ("¥", "JPY"), ("£", "GBP"), ("C$", "CAD"), ("руб", "RUB"), ("元", "CNY")],
)
def test_a_shared_sign_means_its_usual_currency_where_nothing_else_is_known(
    mark: str, code: str
) -> None:
    assert chosen(mark) == code
    assert chosen(mark, default="VND") == code


@pytest.mark.parametrize(
    ("mark", "default"),
    [
        *(("$", "MXN"), ("$", "COP"), ("$", "AUD"), ("¥", "CNY"), ("£", "EGP"), ("C$", "NIO")),
        *(("руб", "BYN"), ("lei", "MDL"), ("kr", "NOK"), ("Rs", "PKR"), ("元", "TWD")),
        *(("fr", "XAF"), ("won", "KPW"), ("dinar", "RSD"), ("peso", "CLP"), ("L", "HNL")),
    ],
)
def test_the_default_counts_before_the_usual_meaning_of_a_sign(mark: str, default: str) -> None:
    assert chosen(mark, default=default) == default


@given(st.sampled_from(sorted(DOLLARS)), CODES)
def test_the_field_counts_before_the_default(code: str, default: str) -> None:
    assert chosen("$", field=code, default=default) == code


@pytest.mark.parametrize("mark", ["kr", "Rs", "FCFA", "ريال", "Bs", "som"])
def test_a_sign_without_a_usual_meaning_is_refused_beside_a_default_of_another_sign(
    mark: str,
) -> None:
    assert refusal(mark, default="VND") == "currency_unknown"


def test_a_letter_that_may_be_a_unit_names_no_currency_by_itself() -> None:
    assert refusal("L", default="VND") == "currency_unknown"
    assert chosen("L", field="HNL", default="VND") == "HNL"


def test_two_marks_together_mean_what_both_may_mean() -> None:
    assert chosen("元", "CN¥") == "CNY"
    assert chosen("US$", "$", default="MXN") == "USD"


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


@pytest.mark.parametrize(
    "field", ["dollars of gold", "XAU", 840, True, ["USD"], "$" * 101, "&amp;"]
)
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
        assert all(code in mark_of(mark).codes for mark in marks)
        assert field is None or code == field


@given(CODES)
def test_a_currency_has_none_to_four_decimals(code: str) -> None:
    assert 0 <= currency_exponent(code) <= 4


@pytest.mark.parametrize("code", ["", "usd", "XAU", "XTS", "Dollar"])
def test_what_is_no_code_of_a_currency_has_no_decimals(code: str) -> None:
    with pytest.raises(InvalidMessage, match="currency_unknown"):
        currency_exponent(code)
