"""Price text and numbers -> minor units and a currency."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.messages.prices import Price, parse_price
from product_consumer.money import format_price, to_major

NBSP, NARROW_NBSP = "\u00a0", "\u202f"


def reason_of(raw: object, currency: object = None, default: str = "VND") -> str:
    with pytest.raises(InvalidMessage) as caught:
        parse_price(raw, currency, default)
    return caught.value.reason


@pytest.mark.parametrize(
    ("text", "minor", "currency"),
    [
        ("1.299.000₫", 1299000, "VND"),
        ("1,299,000 ₫", 1299000, "VND"),
        ("1.299.000 VNĐ", 1299000, "VND"),
        ("1299000đ", 1299000, "VND"),
        ("1299000.00 VND", 1299000, "VND"),
        ("Giá: 1.299.000₫", 1299000, "VND"),
        ("1.299.000₫/cái", 1299000, "VND"),
        ("$1,299.00", 129900, "USD"),
        ("US$ 1,299", 129900, "USD"),
        ("USD $12.99", 1299, "USD"),
        ("$.75", 75, "USD"),
        ("1.299,00 €", 129900, "EUR"),
        (f"1{NBSP}299,00{NBSP}€", 129900, "EUR"),
        (f"1{NARROW_NBSP}299,00 EUR", 129900, "EUR"),
        ("12,- €", 1200, "EUR"),
        ("£5", 500, "GBP"),
        ("1'299.00 CHF", 129900, "CHF"),
        ("1\u2019299.-- CHF", 129900, "CHF"),
        ("₹1,29,900.00", 12990000, "INR"),
        ("¥1,299", 1299, "JPY"),
        ("₩12,000", 12000, "KRW"),
        ("฿1,299", 129900, "THB"),
        ("Rp 150.000", 15000000, "IDR"),
        ("R$ 1.299,90", 129990, "BRL"),
        ("12.500 KWD", 12500, "KWD"),
        ("\u0661\u066c\u0662\u0669\u0669\u066b\u0665\u0660 USD", 129950, "USD"),
        ("\u200e12.50\u200f $", 1250, "USD"),
        ("\uff04\uff11\uff12", 1200, "USD"),
    ],
)
def test_a_price_names_its_own_currency(text: str, minor: int, currency: str):
    assert parse_price(text, None, "") == Price(minor, currency)


@pytest.mark.parametrize(
    ("text", "field", "currency"),
    [
        ("$12", None, "USD"),
        ("$12", "AUD", "AUD"),
        ("$12", "cad", "CAD"),
        ("$12 SGD", None, "SGD"),
        ("S$12", None, "SGD"),
        ("¥12", "CNY", "CNY"),
        ("12 kr", "SEK", "SEK"),
        ("12 元", "TWD", "TWD"),
        ("12", "EUR", "EUR"),
        ("12", "₫", "VND"),
        ("12", None, "VND"),
        ("12", "", "VND"),
    ],
)
def test_the_currency_field_decides_where_the_text_leaves_it_open(text, field, currency):
    price = parse_price(text, field, "VND")
    assert price is not None
    assert price.currency == currency


@pytest.mark.parametrize(
    ("text", "field"), [("$12", "VND"), ("12 €", "USD"), ("€12 USD", None), ("A$12", "CAD")]
)
def test_currencies_that_exclude_each_other_are_a_mismatch(text, field):
    assert reason_of(text, field) == "currency_mismatch"


@pytest.mark.parametrize(
    ("text", "field"), [("12", None), ("12 kr", None), ("12 ZZZ", None), ("$12", "ZZZ"), (5, "XAU")]
)
def test_a_price_without_a_known_currency_is_rejected(text, field):
    assert reason_of(text, field, default="") == "currency_unknown"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("1.299 €", "price_ambiguous"),
        ("1,299 €", "price_ambiguous"),
        ("1.299 CHF", "price_ambiguous"),
        ("$1.299", "price_ambiguous"),
        ("$1.500", "price_ambiguous"),
        ("US$ 2.400", "price_ambiguous"),
        ("2,500 TL", "price_ambiguous"),
        ("2,500 zł", "price_ambiguous"),
        ("18,000 руб.", "price_ambiguous"),
        ("£18.00 [1]", "price_ambiguous"),
        ("da 7,32 €", "price_ambiguous"),
        ("5 تومان", "price_ambiguous"),
        ("1 299.000 ₫", "price_ambiguous"),
        ("12 \u2013 15", "price_ambiguous"),
        ("$12 - $15", "price_ambiguous"),
        ("2 for $5", "price_ambiguous"),
        ("99 € 79 €", "price_ambiguous"),
        ("từ 12.000₫", "price_ambiguous"),
        ("12.5 ₫", "price_precision"),
        ("24.99001 USD", "price_precision"),
        ("19.989999771118164 USD", "price_precision"),
        ("0.125 $", "price_precision"),
        (Decimal("1E-300"), "price_precision"),
        ("1e5", "price_invalid"),
        ("call us", "price_invalid"),
        ("₫", "price_invalid"),
        ("12k", "price_invalid"),
        ("1.2 triệu", "price_invalid"),
        ("50%", "price_invalid"),
        ("12\u00b2 $", "price_invalid"),
        ("12\u00bd $", "price_invalid"),
        ("12&sup2; $", "price_invalid"),
        ("12 km", "price_invalid"),
        ("5 kg", "price_invalid"),
        ("$5/kg", "price_invalid"),
        ("$5/month", "price_invalid"),
        ("5+ $", "price_invalid"),
        ("5 K", "price_invalid"),
        ("5 cents", "price_invalid"),
        ("free shipping", "price_invalid"),
        ("!", "price_invalid"),
        ("12,50,- €", "price_invalid"),
        ("12 - €", "price_invalid"),
        ("$(5.00)", "price_invalid"),
        ("1.2.3", "price_invalid"),
        ("12.34.567 ₫", "price_invalid"),
        ("0.299.000 ₫", "price_invalid"),
        ("1'29 CHF", "price_invalid"),
        ("(5.00)", "price_invalid"),
        ("1" * 101, "price_invalid"),
        ("$-5", "price_range"),
        ("\u22125 $", "price_range"),
        (-0.01, "price_range"),
        (10**15, "price_range"),
        (Decimal("1E+400000"), "price_range"),
        (float("inf"), "price_range"),
        ("999999999999999.9999 CLF", "price_range"),
        (True, "price_type"),
        ([], "price_type"),
        ({}, "price_type"),
    ],
)
def test_a_price_without_a_single_reading_is_rejected(raw, reason):
    assert reason_of(raw) == reason


@pytest.mark.parametrize(
    "raw",
    [
        *(None, "", "  ", "free", "FREE", "n/a", " N/A\n"),
        *("Free!", "free!!", "N/A.", "FREE*", "&nbsp;", f"{NBSP}Free{NBSP}!"),
    ],
)
def test_an_unknown_price_is_none_even_without_a_currency(raw):
    assert parse_price(raw, None, "") is None


@pytest.mark.parametrize(
    ("raw", "minor"), [(1299, 129900), (19.99, 1999), (Decimal("19.990"), 1999), (Decimal("-0"), 0)]
)
def test_a_number_is_in_major_units_and_stays_exact(raw, minor):
    assert parse_price(raw, "USD", "") == Price(minor, "USD")


@pytest.mark.parametrize(
    ("raw", "minor"),
    [
        (24.990000000000002, 2499),
        (Decimal("24.990000000000002"), 2499),
        ("24.990000000000002", 2499),
        (1549.8999999999999, 154990),
        (0.1 + 0.2, 30),
        (3 * 19.99, 5997),
        ("$ 1,549.8999999999999", 154990),
    ],
)
def test_the_rounding_noise_of_doubles_is_cleaned(raw: object, minor: int):
    assert parse_price(raw, "USD", "") == Price(minor, "USD")


def test_the_largest_price_is_just_below_the_limit():
    assert parse_price(10**15 - 1, "VND", "") == Price(10**15 - 1, "VND")


def minor_units_below_the_limit(currency: str) -> st.SearchStrategy[int]:
    return st.integers(0, 10**15 - 1).filter(
        lambda minor: to_major(minor, currency).adjusted() < 15
    )


def european(text: str) -> str:
    return text.translate(str.maketrans(",.", ".,"))


@given(minor_units_below_the_limit("USD"))
def test_every_formatted_dollar_price_is_read_back(minor: int):
    assert parse_price(format_price(minor, "USD"), None, "") == Price(minor, "USD")


@given(minor_units_below_the_limit("VND"))
def test_every_dong_price_with_points_is_read_back(minor: int):
    assert parse_price(european(f"{minor:,} ₫"), None, "") == Price(minor, "VND")


@given(minor_units_below_the_limit("EUR"))
def test_every_european_price_is_read_back(minor: int):
    text = european(format_price(minor, "EUR"))
    assert parse_price(text, None, "") == Price(minor, "EUR")


@given(st.text(alphabet="0123456789.,' -+eE$€₫đVNDUSk&;*/:()\u00a0\u2013\u066b", max_size=20))
def test_any_price_like_text_gives_a_price_in_range_or_a_named_reason(text: str):
    try:
        price = parse_price(text, None, "VND")
    except InvalidMessage as error:
        assert error.reason.startswith(("price_", "currency_"))
    else:
        assert price is None or 0 <= price.minor < 2**63


@given(st.text(alphabet="0123456789., ", max_size=20))
def test_an_accepted_price_has_the_digits_that_were_written(text: str):
    try:
        price = parse_price(text, "USD", "")
    except InvalidMessage:
        return
    written = "".join(character for character in text if character.isdigit()).strip("0")
    # Longer numbers are those of doubles, and lose their noise.
    assume(len(written) <= 15)
    assert str(price.minor if price else "").strip("0") == written
