"""Rating and review count -> numbers."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.products.reviews import MAX_REVIEWS_COUNT, parse_rating, parse_reviews_count

PARSERS = {"rating": parse_rating, "reviews_count": parse_reviews_count}
COUNTS = st.integers(0, 10**9)
TENTHS = st.integers(0, 50).map(lambda tenths: tenths / 10)


def read(field: str, raw: Any) -> float | None:
    """Return the value of a field; it must come without a flag."""
    flags: list[str] = []
    number: float | None = PARSERS[field](raw, field, flags)
    assert flags == []
    return number


def is_left_out(field: str, raw: Any) -> bool:
    flags: list[str] = []
    return PARSERS[field](raw, field, flags) is None and flags == [f"{field}_ignored"]


@pytest.mark.parametrize(
    ("raw", "stars"),
    [("4.8", 4.8), ("4,8", 4.8), (5, 5.0), (Decimal("4.80"), 4.8), ("\uff14", 4.0), (0, 0.0)],
)
def test_a_rating_is_read_from_text_or_a_number(raw, stars):
    assert read("rating", raw) == stars


def test_a_rating_of_minus_zero_is_zero():
    assert str(read("rating", "-0.0")) == "0.0"


@pytest.mark.parametrize(
    "shown",
    [
        "4.3 out of 5 stars",
        "4.3 out of 5",
        "4.3 OUT OF 5.0 STARS",
        "Rated 4.3 out of 5",
        "Rating: 4.3",
        "4.3 stars",
        "4.3-star",
        "★ 4.3",
        "4.3/5",
        "4,3 / 5",
        "4.3\u00a0/\u00a05",
        "4,3 von 5 Sternen",
        "4,3 sur 5 étoiles",
        "4,3 de 5 estrellas",
        "4,3 su 5 stelle",
        "4,3 van 5 sterren",
        "4,3 из 5",
        "4,3 trên 5 sao",
        "5つ星のうち4.3",
        "5 y\u0131ld\u0131z üzerinden 4,3",
        "٤٫٣",  # noqa: RUF001
        "۴٫۳",  # noqa: RUF001
        "٤٫٣ من ٥ نجوم",  # noqa: RUF001
        "\u200e4.3\u200f",
        "4.3 (2,140)",
        "4,3/5 (1.234 avis)",
        "4.3 \ud83c",
    ],
)
def test_a_rating_is_read_as_a_page_shows_it(shown: str):
    assert read("rating", shown) == 4.3


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
    assert read("reviews_count", raw) == count


@pytest.mark.parametrize(
    ("shown", "count"),
    [
        ("(2,140)", 2140),
        ("[2.140]", 2140),
        ("( 12 )", 12),
        ("2,140 ratings", 2140),
        ("2,140 global ratings", 2140),
        ("(2,140 customer reviews)", 2140),
        ("Reviews (2,140)", 2140),
        ("Reviews: 12", 12),
        ("2.140 Bewertungen", 2140),
        ("2 140 avis", 2140),
        ("2\u202f140 отзывов", 2140),
        ("2.140 đánh giá", 2140),
        ("2,140件のレビュー", 2140),
        ("2’140", 2140),  # noqa: RUF001
        ("2‘140", 2140),  # noqa: RUF001
        ("٢٬١٤٠", 2140),
        ("۲٬۱۴۰ نظر", 2140),
        ("२,१४०", 2140),
        ("1.2k", 1200),
        ("1,2K", 1200),
        ("1.25k", 1250),
        ("(1.2K reviews)", 1200),
        ("10k+", 10_000),
        ("1,000+", 1000),
        ("1.2M ratings", 1_200_000),
        ("1,2 тыс. отзывов", 1200),
        ("1.2万", 12_000),
    ],
)
def test_a_count_is_read_as_a_page_shows_it(shown: str, count: int):
    assert read("reviews_count", shown) == count


@given(COUNTS, st.sampled_from(["{:,}", "({:,})", "{:,} ratings", "{:,} Reviews", "{:,}+", "{}"]))
def test_every_count_is_read_whatever_stands_beside_it(count: int, form: str):
    assert read("reviews_count", form.format(count)) == count


@given(
    TENTHS, st.sampled_from(["{}", "{} out of 5 stars", "{}/5", "{} von 5", "Rated {} out of 5"])
)
def test_every_rating_is_read_whatever_stands_beside_it(stars: float, form: str):
    assert read("rating", form.format(stars)) == stars
    assert read("rating", form.format(str(stars).replace(".", ","))) == stars


@pytest.mark.parametrize(
    "raw",
    [None, "", " \u00a0", "N/A", "n/a", "-", "–", "—", "None", "null", "No reviews yet"],  # noqa: RUF001
)
@pytest.mark.parametrize("field", PARSERS)
def test_absent_reviews_are_none(field: str, raw: object):
    assert read(field, raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        "four",
        "86%",
        "8.6/10",
        "4.3 of 50",
        "6 out of 5",
        "3 - 5",
        "4½",
        "4²",
        "4 reviews",
        "1e1",
        "4.3" + " " * 200 + "x",
        Decimal("NaN"),
        float("inf"),
        True,
        [],
        {"ratingValue": 4},
    ],
)
def test_a_rating_with_another_reading_or_none_is_left_out_with_a_flag(raw: object):
    assert is_left_out("rating", raw)


@pytest.mark.parametrize(
    "raw",
    [
        *("1,52,0", "1 52", "1.5", "many", "12 sold", "1.234k", "1,2 mil", "1,2 B", "2٫140"),  # noqa: RUF001
        *("-5 reviews", "12 of 40", "4.3 out of 5 (2,140)", "12²", "9" * 30 + " reviews"),
        *(Decimal("1.5"), True, [], {}),
    ],
)
def test_a_count_with_two_readings_or_none_is_left_out_with_a_flag(raw: object):
    assert is_left_out("reviews_count", raw)


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        *(("rating", raw) for raw in (6, "6", "5.1", "-1", -1)),
        *(("reviews_count", raw) for raw in (-1, "-1", MAX_REVIEWS_COUNT + 1, "9" * 30)),
    ],
)
def test_a_plain_number_out_of_range_shows_a_wrong_producer(field: str, raw: object):
    with pytest.raises(InvalidMessage, match="review_range"):
        PARSERS[field](raw, field, [])


@pytest.mark.parametrize("field", PARSERS)
def test_text_that_no_store_could_hold_is_refused_here_too(field: str):
    with pytest.raises(InvalidMessage, match="text_invalid"):
        PARSERS[field]("4\x00", field, [])


@given(
    st.one_of(
        st.text(max_size=20),
        st.text("0123456789., '’()kmK/+-5 outf"),  # noqa: RUF001
        st.floats(),
        st.decimals(),
    ),
)
def test_anything_is_in_range_or_left_out_or_a_named_reason(raw):
    for field, limit in (("rating", 5), ("reviews_count", MAX_REVIEWS_COUNT)):
        flags: list[str] = []
        try:
            number = PARSERS[field](raw, field, flags)
        except InvalidMessage as error:
            assert error.reason in {"review_range", "text_invalid"}
        else:
            assert number is None or (0 <= number <= limit and not flags)
