"""Prices in the forms that shops of the whole world write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.messages.prices import Price, parse_price
from product_consumer.money import EXPONENTS

CODES = sorted(EXPONENTS)
NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("text", "minor", "currency"),
    [
        ("Rp 175,000", 17500000, "IDR"),
        ("4,490 Ft", 449000, "HUF"),
        ("4.490 Ft", 449000, "HUF"),
        ("$ 64,900 COP", 6490000, "COP"),
        ("35.000 IQD", 35000000, "IQD"),
        ("35,000 د.ع.", 35000000, "IQD"),
        ("₭145,000", 14500000, "LAK"),
        ("៛18,500", 1850000, "KHR"),
        ("145,000 MMK", 14500000, "MMK"),
        ("145,000 MNT", 14500000, "MNT"),
        ("R$ 1.500", 150000, "BRL"),
        ("$1,500", 150000, "USD"),
        ("1,299 KWD", 1299000, "KWD"),
        ("1.500 KWD", 1500, "KWD"),
        ("1,500 TND", 1500, "TND"),
        ("1.500 TND", 1500000, "TND"),
        ("1.500 JOD", 1500, "JOD"),
        (f"1{NBSP}299,500 TND", 1299500, "TND"),
        ("0.500 USD", 50, "USD"),
        ("1299.500 USD", 129950, "USD"),
    ],
)
def test_three_digits_behind_a_separator_are_read_by_the_custom_of_the_currency(
    text: str, minor: int, currency: str
):
    assert parse_price(text, None, "VND") == Price(minor, currency)


@given(st.integers(1, 999), st.integers(0, 999), st.sampled_from(".,"), st.sampled_from(CODES))
def test_the_digits_never_decide_whether_a_separator_groups(head, tail, sign, currency):
    texts = [f"{head}{sign}{tail:03} {currency}", f"111{sign}111 {currency}"]
    readings: list[str | int] = []
    for text in texts:
        try:
            price = parse_price(text, None, "")
        except InvalidMessage as error:
            readings.append(error.reason)
        else:
            assert price is not None
            whole = int(text.split()[0].replace(sign, ""))
            readings.append(price.minor // whole if whole else 0)
    assert readings[0] == readings[1]


@pytest.mark.parametrize(
    ("text", "field", "minor", "currency"),
    [
        ("€ 1.349,-", None, 134900, "EUR"),
        ("1.349,\u2013 €", None, 134900, "EUR"),
        ("1,349.\u2014 €", None, 134900, "EUR"),
        ("1.349:- ", "EUR", 134900, "EUR"),
        ("Rs. 2,199/-", "INR", 219900, "INR"),
        ("Rs. 2,199.50/- only", "INR", 219950, "INR"),
        ("₹649/-", None, 64900, "INR"),
        ("500/=", "KES", 50000, "KES"),
        ("599:-", "SEK", 59900, "SEK"),
        ("CHF 87. \u2013", None, 8700, "CHF"),
    ],
)
def test_a_mark_for_no_cents_makes_the_other_separator_a_group(text, field, minor, currency):
    assert parse_price(text, field, "VND") == Price(minor, currency)


@pytest.mark.parametrize(
    ("text", "minor", "currency"),
    [
        ("39,50 € *", 3950, "EUR"),
        ("£18.00*", 1800, "GBP"),
        ("£18.00 **", 1800, "GBP"),
        ("18.00 £\u2020", 1800, "GBP"),
        ("1.450.000&nbsp;&#8363;", 1450000, "VND"),
        ("&euro;18,50", 1850, "EUR"),
        ("&amp;pound;18.50", 1850, "GBP"),
        ("\u20b9\u00a01\u00b4299", 129900, "INR"),
        ("£25.00 (incl. VAT)", 2500, "GBP"),
        ("€6.56 + VAT", 656, "EUR"),
        ("běžná cena 890 Kč", 89000, "CZK"),
        ("Our Price: $149.95", 14995, "USD"),
    ],
)
def test_what_cannot_change_an_amount_is_dropped(text: str, minor: int, currency: str):
    assert parse_price(text, None, "VND") == Price(minor, currency)


@pytest.mark.parametrize(
    ("text", "field", "minor", "currency"),
    [
        ("8,450.00 ر.س.", None, 845000, "SAR"),
        ("\u200f8,450.00\u00a0ر.س.\u200f", "SAR", 845000, "SAR"),
        ("R418.00", "ZAR", 41800, "ZAR"),
        ("RD$2,350.00", "DOP", 235000, "DOP"),
        ("S/ 74.90", "PEN", 7490, "PEN"),
        ("B/.74.90", "PAB", 7490, "PAB"),
        ("රු.500.00", "LKR", 50000, "LKR"),
        ("7 450 FCFA", "XAF", 7450, "XAF"),
        ("5 400 \u0420", None, 540000, "RUB"),
        ("45元人民币", None, 4500, "CNY"),
        ("1.450.000 VN\u00d0", None, 1450000, "VND"),
        ("US $412.50", None, 41250, "USD"),
        ("AU $61.00", None, 6100, "AUD"),
        ("C $18.40", None, 1840, "CAD"),
        ("1 149,00 $US", None, 114900, "USD"),
        ("1 149,00 $ CA", None, 114900, "CAD"),
        ("US-$ 12,50", None, 1250, "USD"),
        ("$80.00 U.S.", None, 8000, "USD"),
        ("12 Canadian dollars", None, 1200, "CAD"),
        ("12 dólares", "USD", 1200, "USD"),
        ("84,00 руб.", "BYN", 8400, "BYN"),
        ("310 lei", "MDL", 31000, "MDL"),
        ("বাংলাদেশী টাকা 12", "BDT", 1200, "BDT"),
    ],
)
def test_marks_of_all_places_are_read_on_either_side(text, field, minor, currency):
    assert parse_price(text, field, "VND") == Price(minor, currency)


@pytest.mark.parametrize(
    ("text", "default", "minor", "currency"),
    [
        ("$1,149.00", "MXN", 114900, "MXN"),
        ("$ 240.000", "COP", 24000000, "COP"),
        ("¥268.00", "CNY", 26800, "CNY"),
        ("$59.95", "AUD", 5995, "AUD"),
        ("84,00 руб.", "BYN", 8400, "BYN"),
        ("US$59.95", "AUD", 5995, "USD"),
        ("$59.95", "VND", 5995, "USD"),
    ],
)
def test_a_shared_sign_is_first_that_of_the_default_currency(text, default, minor, currency):
    assert parse_price(text, None, default) == Price(minor, currency)


@pytest.mark.parametrize(
    ("text", "field"),
    [("12 Canadian dollars", "AUD"), ("12 euros", "USD"), ("12 долларов США", "EUR")],
)
def test_the_name_of_another_currency_is_a_mismatch(text: str, field: str):
    with pytest.raises(InvalidMessage, match="currency_mismatch"):
        parse_price(text, field, "VND")


@pytest.mark.parametrize(
    "word", ["k", "K", "M", "T", "mil", "mn", "jt", "lakh", "triệu", "тыс", "万", "천", "kg", "%"]
)
def test_no_multiplier_or_unit_is_a_mark_of_any_currency(word: str):
    for code in CODES:
        with pytest.raises(InvalidMessage):
            parse_price(f"5 {word}", code, "")
        with pytest.raises(InvalidMessage):
            parse_price(f"5{word}", None, code)
