"""Rating and review count as producers and pages write them -> numbers, or None for unknown.

A product can do without both. So a value that cannot be read, or that has two readings, is left
out, and a flag says so (``rating_ignored``, ``reviews_count_ignored``). Only a plain number that is
out of range rejects the message: it shows that the producer is wrong.
"""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

from product_consumer.errors import InvalidMessage
from product_consumer.products.review_words import (
    MULTIPLIER,
    MULTIPLIERS,
    OF,
    OUT_OF_FIVE,
    RATED,
    REVIEWS,
    STARS,
    UNKNOWN,
)
from product_consumer.text import check_text, excerpt, plain_digits, without_halves

MAX_RATING = 5
MAX_REVIEWS_COUNT = 2**53
"""The largest integer that every reader of JSON keeps exact."""
_MAX_CHARACTERS = 100

_Reading: TypeAlias = tuple[Decimal | None, bool]
"""The number of a text, if it has one; whether the text is a number and nothing else."""

_SAME_CHARACTER = str.maketrans(
    {
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{MODIFIER LETTER APOSTROPHE}": "'",
        "\N{PRIME}": "'",
        "\N{ARABIC THOUSANDS SEPARATOR}": "'",
        "\N{MINUS SIGN}": "-",
        "\N{HYPHEN}": "-",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
    }
)
_DECIMAL = "[.,\N{ARABIC DECIMAL SEPARATOR}]"
_PLAIN_RATING = re.compile(rf"[+-]?[0-9]+(?:{_DECIMAL}[0-9]+)?")
_STARS = rf"(?P<stars>[0-9]+(?:{_DECIMAL}[0-9]+)?)"
_SHOWN_RATING = re.compile(
    rf"(?:{RATED} ?:? ?)?{_STARS}(?: ?{OF} ?5(?:{_DECIMAL}0+)?)?(?:[ -]?{STARS})?"
    # The count beside it: "4.3 (2,140)".
    rf"(?: ?\([0-9][0-9., ']*{MULTIPLIER}?\+?(?: ?{REVIEWS})?\))?"
)
_FIVE_FIRST = re.compile(rf"{OUT_OF_FIVE} ?{_STARS}")

_WHOLE = re.compile(r"[+-]?[0-9]+(?:\.0+)?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?P<sign>[., '])(?:[0-9]{2,3}(?P=sign))*[0-9]{3}")
# Three digits behind the point could be decimals or a group: 1.234k.
_ROUNDED = re.compile(rf"(?P<number>[0-9]+(?:{_DECIMAL}[0-9]{{1,2}})?) ?(?P<unit>{MULTIPLIER})")
_SHOWN_COUNT = re.compile(
    rf"(?:{REVIEWS} ?:? ?)?[(\[]? ?(?P<count>[0-9](?:[0-9 ']|{_DECIMAL})*?(?: ?{MULTIPLIER})?)"
    rf" ?\+?(?: ?{REVIEWS})? ?[)\]]?"
)


def parse_rating(raw: object, field: str, flags: list[str]) -> float | None:
    """Return stars from 0 to 5; None where they are unknown or, with a flag, cannot be read.

    Raises ``InvalidMessage``: ``review_range``, ``text_invalid``.
    """
    stars = _read(raw, field, flags, _stars, MAX_RATING)
    # abs: minus zero would hash differently from zero.
    return None if stars is None else abs(float(stars))


def parse_reviews_count(raw: object, field: str, flags: list[str]) -> int | None:
    """Return a count; None where it is unknown or, with a flag, cannot be read.

    A count has no decimals, so ``1,520``, ``1.520``, ``1 520`` and ``1'520`` are 1520.
    Raises ``InvalidMessage``: ``review_range``, ``text_invalid``.
    """
    count = _read(raw, field, flags, _count, MAX_REVIEWS_COUNT)
    if count is not None and count != int(count):
        flags.append(f"{field}_ignored")
        return None
    return None if count is None else int(count)


def _read(
    raw: object, field: str, flags: list[str], read_text: Callable[[str], _Reading], limit: int
) -> Decimal | None:
    number, is_plain = _number(raw), True
    if isinstance(raw, str):
        text = _plain_text(check_text(without_halves(raw), field))
        if text in UNKNOWN:
            return None
        number, is_plain = (None, False) if text is None else read_text(text)
    if is_plain and number is not None and not 0 <= number <= limit:
        raise InvalidMessage("review_range", f"{field} {excerpt(raw)} is not from 0 to {limit}")
    if raw is not None and (number is None or number > limit):
        flags.append(f"{field}_ignored")
        return None
    return number


def _number(raw: object) -> Decimal | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        return None
    number = Decimal(repr(raw)) if isinstance(raw, float) else Decimal(raw)
    return number if number.is_finite() else None


def _plain_text(raw: str) -> str | None:
    """Return text in lower case with plain digits and signs; None for what cannot be read."""
    text = raw.strip()
    # NFKC would make 41/2 of "4½", and 42 of "4²".
    if len(text) > _MAX_CHARACTERS or any(unicodedata.category(c) == "No" for c in text):
        return None
    return plain_digits(text).translate(_SAME_CHARACTER).casefold()


def _stars(text: str) -> _Reading:
    if _PLAIN_RATING.fullmatch(text):
        return _decimal(text), True
    found = _SHOWN_RATING.fullmatch(text) or _FIVE_FIRST.fullmatch(text)
    return (_decimal(found["stars"]) if found else None), False


def _count(text: str) -> _Reading:
    exact = _exact_count(text)
    if exact is not None:
        return exact, True
    found = _SHOWN_COUNT.fullmatch(text)
    if found is None:
        return None, False
    exact = _exact_count(found["count"])
    return (_rounded_count(found["count"]) if exact is None else exact), False


def _exact_count(text: str) -> Decimal | None:
    if _GROUPED.fullmatch(text):
        return Decimal(re.sub("[., ']", "", text))
    return Decimal(text) if _WHOLE.fullmatch(text) else None


def _rounded_count(text: str) -> Decimal | None:
    found = _ROUNDED.fullmatch(text)
    return None if found is None else _decimal(found["number"]) * MULTIPLIERS[found["unit"]]


def _decimal(text: str) -> Decimal:
    return Decimal(re.sub(_DECIMAL, ".", text))
