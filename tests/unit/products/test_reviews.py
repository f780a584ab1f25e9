"""Rating and review count -> numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.products.reviews import MAX_REVIEWS_COUNT, parse_rating, parse_reviews_count


@pytest.mark.parametrize(
    ("raw", "stars"),
    [("4.8", 4.8), ("4,8", 4.8), (5, 5.0), (Decimal("4.80"), 4.8), ("\uff14", 4.0), (0, 0.0)],
)
def test_a_rating_is_read_from_text_or_a_number(raw, stars):
    assert parse_rating(raw) == stars


def test_a_rating_of_minus_zero_is_zero():
    assert str(parse_rating("-0.0")) == "0.0"


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        ("1520", 1520),
        ("1,520", 1520),
        ("1.520", 1520),
        ("1 520", 1520),
        ("1\u202f520\u00a0000", 1520000),
        ("1,29,900", 129900),
        ("1520.0", 1520),
        (Decimal("1520.0"), 1520),
        (MAX_REVIEWS_COUNT, MAX_REVIEWS_COUNT),
        (0, 0),
    ],
)
def test_a_count_is_read_from_grouped_text_or_a_number(raw, count):
    assert parse_reviews_count(raw) == count


@pytest.mark.parametrize("raw", [None, "", " \u00a0"])
def test_absent_reviews_are_none(raw):
    assert parse_rating(raw) is None
    assert parse_reviews_count(raw) is None


@pytest.mark.parametrize("raw", ["1,52,0", "1 52", "1.5", "1.5k", "many", Decimal("1.5"), True, []])
def test_a_value_that_is_no_whole_number_is_no_count(raw):
    with pytest.raises(InvalidMessage, match="review_invalid"):
        parse_reviews_count(raw)


@given(
    st.one_of(st.text(max_size=20), st.text("0123456789., '+-"), st.floats(), st.decimals()),
)
def test_anything_is_in_range_or_a_named_reason(raw):
    for parse, limit in ((parse_rating, 5), (parse_reviews_count, MAX_REVIEWS_COUNT)):
        try:
            number = parse(raw)
        except InvalidMessage as error:
            assert error.reason in {"review_invalid", "review_range", "text_invalid"}
        else:
            assert number is None or 0 <= number <= limit
