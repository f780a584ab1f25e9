"""Price as producers send it -> integer minor units and an ISO 4217 currency.

price-parser accepts any text: it reads 12 in "12 - 15", 5 in "-5 $", 1 in "1e5", 0 in "free".
So the text is checked here first. The parser gets a single well-formed number and the decimal
separator that ``price_numbers`` decided. A text with two readings is rejected, never guessed: no
store would notice a price that is wrong by a factor of 1000.
"""

import html
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from product_consumer.errors import InvalidMessage
from product_consumer.messages.currencies import choose_currency, read_field
from product_consumer.messages.currency_marks import Mark
from product_consumer.messages.price_numbers import NUMBER, WrittenNumber, read_amount
from product_consumer.messages.price_words import read_words
from product_consumer.money import currency_exponent, without_noise
from product_consumer.text import check_text, excerpt, plain_digits

MAX_PRICE = 10**15
"""Prices in major units stay below it: the largest power of ten that a double holds to the unit."""
MAX_PRICE_CHARACTERS = 100
_MAX_RAW_CHARACTERS = 1000
"""Above it, entities are not looked for: a price of 100 entities is shorter."""
_MAX_MINOR = 2**63 - 1

_UNKNOWN = ("free", "n/a")
_DECORATION = "!.* \N{NO-BREAK SPACE}"
_EXPONENT_TEXT = re.compile(r"[0-9][eE][+-]?[0-9]")
# "12,-", "12.--", "12/-", "12:-" and "12/=" stand for a round amount.
_NO_CENTS = re.compile(r"^ ?(?P<sign>[.,:/]) ?(?:-+|=)")
# Decimals of the price and the hyphen of "US-$" are no minus.
_HYPHEN = re.compile(r"(?<=[A-Za-z])-(?=[$€£¥])")
# Before NFKC, which makes a space and an accent of the acute.
_SAME_CHARACTER = str.maketrans(
    {
        **dict.fromkeys(
            "\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{PRIME}"
            "\N{MODIFIER LETTER APOSTROPHE}\N{ACUTE ACCENT}\N{GRAVE ACCENT}"
            "\N{ARABIC THOUSANDS SEPARATOR}\N{REVERSED COMMA}",
            "'",
        ),
        **dict.fromkeys(
            "\N{MINUS SIGN}\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{FIGURE DASH}\N{EN DASH}\N{EM DASH}"
            "\N{HORIZONTAL BAR}\N{HEAVY MINUS SIGN}",
            "-",
        ),
        "\N{ARABIC COMMA}": ",",
    }
)


@dataclass(frozen=True, slots=True)
class Price:
    """An amount of money. ``minor``: integer, in minor units of ``currency``, an ISO 4217 code."""

    minor: int
    currency: str


def parse_price(raw: object, currency_field: object, default_currency: str) -> Price | None:
    """Read a price from text or a number; None when it is unknown ("free", "N/A", blank, null).

    The currency comes from a mark in the text that means one currency, else from
    ``currency_field``, else from ``default_currency`` (may be empty), else from the usual meaning
    of the mark in the text. No words but a few labels ("Giá:", "/cái", "each") are accepted.

    Raises ``InvalidMessage``: ``price_type``, ``price_invalid``, ``price_ambiguous``,
    ``price_range``, ``price_precision``, ``currency_unknown``, ``currency_mismatch``,
    ``text_invalid``.
    """
    if raw is None or (isinstance(raw, str) and _is_unknown(raw)):
        return None
    if isinstance(raw, str):
        return _from_text(raw, currency_field, default_currency)
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        raise InvalidMessage("price_type", f"{excerpt(raw)} is neither text nor a number")
    currency = choose_currency([], read_field(currency_field), default_currency)
    amount = Decimal(repr(raw)) if isinstance(raw, float) else Decimal(raw)
    return Price(_minor(amount, currency, raw), currency)


def _is_unknown(raw: str) -> bool:
    if len(raw) > _MAX_RAW_CHARACTERS:
        return not raw.strip()
    text = _unescaped(raw).strip()
    return not text or text.strip(_DECORATION).casefold() in _UNKNOWN


def _unescaped(raw: str) -> str:
    # Twice: a page within a page was escaped twice.
    return html.unescape(html.unescape(raw)) if "&" in raw else raw


def _from_text(raw: str, currency_field: object, default_currency: str) -> Price:
    text = _checked_text(raw)
    numbers = list(NUMBER.finditer(text))
    if not numbers:
        raise InvalidMessage("price_invalid", f"{excerpt(raw)} has no number")
    if len(numbers) > 1:
        raise InvalidMessage("price_ambiguous", f"{excerpt(raw)} has more than one number")
    number = numbers[0]
    before, after = text[: number.start()], text[number.end() :]
    no_cents = _NO_CENTS.match(after)
    if no_cents:
        after = after[no_cents.end() :]
    is_negative = "-" in before
    field = read_field(currency_field)
    marks = _marks(before.replace("-", " "), after, raw, field)
    currency = choose_currency(marks, field, default_currency)
    written = WrittenNumber(number.group(), no_cents["sign"] if no_cents else "", raw)
    amount = read_amount(written, currency)
    return Price(_minor(-amount if is_negative else amount, currency, raw), currency)


def _marks(before: str, after: str, raw: str, field: Mark | None) -> list[Mark]:
    code = next(iter(field.codes)) if field and len(field.codes) == 1 else ""
    return [
        *read_words(before, raw, is_behind=False, currency=code),
        *read_words(after, raw, is_behind=True, currency=code),
    ]


def _checked_text(raw: str) -> str:
    check_text(raw, "price")
    text = raw
    if len(raw) <= _MAX_RAW_CHARACTERS:
        text = check_text(_unescaped(raw), "price")
    # "12²" is a footnote and "12½" a fraction; NFKC would make 122 and 121/2 of them.
    has_odd_digits = not text.isascii() and any(
        unicodedata.category(c) == "No" for c in text[:MAX_PRICE_CHARACTERS]
    )
    if len(text) > MAX_PRICE_CHARACTERS or has_odd_digits:
        raise InvalidMessage("price_invalid", f"{excerpt(raw)} is not a price")
    text = plain_digits(text.translate(_SAME_CHARACTER))
    if _EXPONENT_TEXT.search(text):
        raise InvalidMessage("price_invalid", f"{excerpt(raw)} has an exponent")
    return _HYPHEN.sub("", text)


def _minor(amount: Decimal, currency: str, raw: object) -> int:
    exponent = currency_exponent(currency)
    currency_unit: int = 10**exponent
    # The exponent is checked first: 1e400000 as an integer would take seconds.
    if not amount.is_finite() or (amount and (amount < 0 or amount.adjusted() >= 15)):
        raise InvalidMessage("price_range", f"{excerpt(raw)} is not from 0 to below {MAX_PRICE:,}")
    amount = without_noise(amount, exponent)
    if amount and amount.adjusted() < -exponent:
        raise _too_precise(raw, currency, exponent)
    numerator, denominator = amount.as_integer_ratio()
    minor, rest = divmod(numerator * currency_unit, denominator)
    if rest:
        raise _too_precise(raw, currency, exponent)
    if minor > _MAX_MINOR:
        raise InvalidMessage("price_range", f"{excerpt(raw)} {currency} exceeds 64 bits")
    return minor


def _too_precise(raw: object, currency: str, exponent: int) -> InvalidMessage:
    return InvalidMessage("price_precision", f"{excerpt(raw)}: {currency} has {exponent} decimals")
