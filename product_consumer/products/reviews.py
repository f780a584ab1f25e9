"""Rating and review count as producers send them -> numbers, or None for unknown."""

import re
from decimal import Decimal

from product_consumer.errors import InvalidMessage
from product_consumer.text import check_text, excerpt, plain_digits

MAX_RATING = 5
MAX_REVIEWS_COUNT = 2**53
"""The largest integer that every reader of JSON keeps exact."""
_MAX_CHARACTERS = 32

_RATING = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]+(?:\.0+)?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?P<sign>[., '])(?:[0-9]{2,3}(?P=sign))*[0-9]{3}")


def parse_rating(raw: object) -> float | None:
    """Return stars from 0 to 5; None for null and blank text. A comma may be the decimal separator.

    Raises ``InvalidMessage``: ``review_invalid`` when it is no number, ``review_range``,
    ``text_invalid``.
    """
    text_or_number = _prepare(raw, "rating")
    if isinstance(text_or_number, str):
        if not _RATING.fullmatch(text_or_number):
            raise _invalid("rating", raw)
        text_or_number = Decimal(text_or_number.replace(",", "."))
    if text_or_number is None:
        return None
    if not 0 <= text_or_number <= MAX_RATING:
        raise InvalidMessage("review_range", f"rating {excerpt(raw)} is not from 0 to {MAX_RATING}")
    # abs: minus zero would hash differently from zero.
    return abs(float(text_or_number))


def parse_reviews_count(raw: object) -> int | None:
    """Return a count; None for null and blank text. ``1,520``, ``1.520`` and ``1 520`` are 1520.

    Raises ``InvalidMessage``: ``review_invalid`` when it is no whole number, ``review_range`` when
    negative or above ``MAX_REVIEWS_COUNT``, ``text_invalid``.
    """
    text_or_number = _prepare(raw, "reviews_count")
    if isinstance(text_or_number, str):
        text_or_number = _whole_number(text_or_number, raw)
    if text_or_number is None:
        return None
    if not 0 <= text_or_number <= MAX_REVIEWS_COUNT:
        raise InvalidMessage("review_range", f"reviews_count {excerpt(raw)} is out of range")
    if text_or_number != int(text_or_number):
        raise _invalid("reviews_count", raw)
    return int(text_or_number)


def _prepare(raw: object, field: str) -> str | Decimal | None:
    if raw is None:
        return None
    if isinstance(raw, str):
        text = check_text(raw, field).strip()
        if len(text) > _MAX_CHARACTERS:
            raise _invalid(field, raw)
        return plain_digits(text) or None
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        raise _invalid(field, raw)
    number = Decimal(repr(raw)) if isinstance(raw, float) else Decimal(raw)
    if not number.is_finite():
        raise _invalid(field, raw)
    return number


def _whole_number(text: str, raw: object) -> Decimal:
    if _GROUPED.fullmatch(text):
        return Decimal(re.sub("[., ']", "", text))
    if not _WHOLE.fullmatch(text):
        raise _invalid("reviews_count", raw)
    return Decimal(text)


def _invalid(field: str, raw: object) -> InvalidMessage:
    return InvalidMessage("review_invalid", f"{field} is {excerpt(raw)}")
