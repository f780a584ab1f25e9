"""Price as producers send it -> integer minor units and an ISO 4217 currency.

price-parser accepts any text: it reads 12 in "12 - 15", 5 in "-5 $", 1 in "1e5", 0 in "free".
So the text is checked here first. The parser gets a single well-formed number and the decimal
separator decided here. A text with two readings is rejected, never guessed: no store would notice a
price that is wrong by a factor of 1000.

A lone separator before exactly three digits (``1.299``) is read

- as a group in a currency without decimals: 1.299 ₫ is 1299;
- by custom where the currency has one: $1,299 and Rp 1.299 are 1299, but $1.299 has three
  decimals (``price_precision``);
- as three decimals after a point in a currency that has three: 1.299 KWD is 1299 fils;
- not at all otherwise: 1.299 € is ``price_ambiguous``.
"""

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from price_parser import parse_price as read_number

from product_consumer.errors import InvalidMessage
from product_consumer.messages.currencies import (
    COMMA_IS_DECIMAL,
    POINT_IS_DECIMAL,
    SYMBOL_OR_WORD,
    choose_currency,
    codes_of_symbol,
)
from product_consumer.money import currency_exponent
from product_consumer.text import check_text, excerpt, plain_digits

MAX_PRICE = 10**15
"""Prices in major units stay below it: the largest power of ten that a double holds to the unit."""
MAX_PRICE_CHARACTERS = 100
_MAX_MINOR = 2**63 - 1

_UNKNOWN = ("", "free", "n/a")
_ARABIC_DECIMAL = "\N{ARABIC DECIMAL SEPARATOR}"
_DECIMALS = f".,{_ARABIC_DECIMAL}"
_SEPARATORS = f" .,'{_ARABIC_DECIMAL}"
_SEPARATOR = re.compile(f"[{_SEPARATORS}]")
# One space joins groups of three digits only. The point of "Rs.500" belongs to the word before it.
_NUMBER = re.compile(
    r"(?:(?<![^\W\d_])[.,])?[0-9]+"
    rf"(?:(?: (?=[0-9]{{3}}(?![0-9]))|[.,'{_ARABIC_DECIMAL}])[0-9]+)*"
)
_EXPONENT_TEXT = re.compile(r"[0-9][eE][+-]?[0-9]")
# "12,-" and "12.--" stand for a round amount.
_NO_CENTS = re.compile(r"^ ?[.,]-+")
_SAME_CHARACTER = str.maketrans(
    {
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{PRIME}": "'",
        "\N{ARABIC THOUSANDS SEPARATOR}": "'",
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
    }
)
# Any other word may change the amount ("12k", "1.2 triệu", "12 per month").
_HARMLESS = frozenset(
    (*":/.", "giá", "bán", "price", "only", "now", "cái", "chiếc", "each", "piece")
)
_OPEN_ENDED = frozenset(("from", "ab", "từ", "desde"))


@dataclass(frozen=True, slots=True)
class Price:
    """An amount of money. ``minor``: integer, in minor units of ``currency``, an ISO 4217 code."""

    minor: int
    currency: str


def parse_price(raw: object, currency_field: object, default_currency: str) -> Price | None:
    """Read a price from text or a number; None when it is unknown ("free", "N/A", blank, null).

    The currency comes from the text, else from ``currency_field``, else ``default_currency`` (may
    be empty). ``$``, ``¥`` and ``£`` mean USD, JPY and GBP unless ``currency_field`` names another
    currency of that symbol. No words but a few labels ("Giá:", "/cái", "each") are accepted.

    Raises ``InvalidMessage``: ``price_type``, ``price_invalid``, ``price_ambiguous``,
    ``price_range``, ``price_precision``, ``currency_unknown``, ``currency_mismatch``,
    ``text_invalid``.
    """
    if raw is None or (isinstance(raw, str) and raw.strip().casefold() in _UNKNOWN):
        return None
    if isinstance(raw, str):
        return _from_text(raw, currency_field, default_currency)
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        raise InvalidMessage("price_type", f"{excerpt(raw)} is neither text nor a number")
    currency = choose_currency([], currency_field, default_currency)
    amount = Decimal(repr(raw)) if isinstance(raw, float) else Decimal(raw)
    return Price(_minor(amount, currency, raw), currency)


def _from_text(raw: str, currency_field: object, default_currency: str) -> Price:
    text = _checked_text(raw)
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        raise InvalidMessage("price_invalid", f"{excerpt(raw)} has no number")
    if len(numbers) > 1:
        raise InvalidMessage("price_ambiguous", f"{excerpt(raw)} has more than one number")
    number = numbers[0]
    before, after = text[: number.start()], _NO_CENTS.sub("", text[number.end() :])
    is_negative = "-" in before
    symbols = _symbols(before.replace("-", " "), raw) + _symbols(after, raw)
    currency = choose_currency(symbols, currency_field, default_currency)
    amount = _amount(number.group(), currency, raw)
    return Price(_minor(-amount if is_negative else amount, currency, raw), currency)


def _checked_text(raw: str) -> str:
    check_text(raw, "price")
    # "12²" is a footnote and "12½" a fraction; NFKC would make 122 and 121/2 of them.
    has_odd_digits = not raw.isascii() and any(
        unicodedata.category(c) == "No" for c in raw[:MAX_PRICE_CHARACTERS]
    )
    if len(raw) > MAX_PRICE_CHARACTERS or has_odd_digits:
        raise InvalidMessage("price_invalid", f"{excerpt(raw)} is not a price")
    text = plain_digits(raw).translate(_SAME_CHARACTER)
    if _EXPONENT_TEXT.search(text):
        raise InvalidMessage("price_invalid", f"{excerpt(raw)} has an exponent")
    return text


def _symbols(side: str, raw: str) -> list[frozenset[str]]:
    """Return the possible codes of each currency symbol on one side of the number."""
    symbols = []
    for token in SYMBOL_OR_WORD.findall(side):
        codes = codes_of_symbol(token)
        if codes:
            symbols.append(codes)
        elif token.casefold() not in _HARMLESS:
            raise _unexpected(token, raw)
    return symbols


def _unexpected(token: str, raw: str) -> InvalidMessage:
    if token.casefold() in _OPEN_ENDED:
        return InvalidMessage("price_ambiguous", f"{excerpt(raw)} is the start of a range")
    if re.fullmatch("[A-Z]{3}", token):
        return InvalidMessage("currency_unknown", f"{token} in {excerpt(raw)}")
    return InvalidMessage("price_invalid", f"{excerpt(token)} in {excerpt(raw)}")


def _amount(number: str, currency: str, raw: str) -> Decimal:
    decimal_separator = _decimal_separator(number, currency, raw)
    if number[0] in ".,":
        number = f"0{number}"
    if decimal_separator == _ARABIC_DECIMAL:
        number, decimal_separator = number.replace(_ARABIC_DECIMAL, "."), "."
    amount = read_number(number, decimal_separator=decimal_separator).amount
    if amount is None:
        raise InvalidMessage("price_invalid", f"{excerpt(raw)} has no readable number")
    return amount


def _decimal_separator(number: str, currency: str, raw: str) -> str | None:
    """Return the decimal separator of a number; None when all its separators make groups."""
    *groups, tail = _SEPARATOR.split(number)
    separators = [character for character in number if character in _SEPARATORS]
    if not separators:
        return None
    last = separators[-1]
    if (
        last in _DECIMALS
        and separators.count(last) == 1
        and _ends_groups(groups, separators, tail, currency, raw)
    ):
        _check_groups(groups, separators[:-1], raw)
        return last
    _check_groups([*groups, tail], separators, raw)
    return None


def _ends_groups(
    groups: list[str], separators: list[str], tail: str, currency: str, raw: str
) -> bool:
    """Tell whether the last separator, the only one of its kind, is the decimal separator."""
    head, last = groups[0], separators[-1]
    exponent = currency_exponent(currency)
    if len(tail) != 3 or last == _ARABIC_DECIMAL or {".", ","} <= set(separators):
        return True
    if len(separators) == 1 and (not 1 <= len(head) <= 3 or head.startswith("0")):
        return True
    if exponent == 3 and last == ".":
        return True
    if len(separators) == 1 and exponent == 0:
        return False
    if len(separators) == 1 and exponent != 3 and currency in POINT_IS_DECIMAL | COMMA_IS_DECIMAL:
        return (last == ".") == (currency in POINT_IS_DECIMAL)
    raise InvalidMessage("price_ambiguous", f"{excerpt(raw)} in {currency}: group or decimals?")


def _check_groups(groups: list[str], separators: list[str], raw: str) -> None:
    if not separators:
        return
    lengths = [len(group) for group in groups]
    by_thousands = 1 <= lengths[0] <= 3 and set(lengths[1:]) == {3}
    # 1,29,900: Indian groups, lakh and crore.
    indian = (
        separators[0] == "," and lengths[0] <= 2 and lengths[-1] == 3 and set(lengths[1:-1]) == {2}
    )
    if len(set(separators)) > 1 or groups[0].startswith("0") or not (by_thousands or indian):
        raise InvalidMessage("price_invalid", f"{excerpt(raw)} is not grouped like a number")


def _minor(amount: Decimal, currency: str, raw: object) -> int:
    exponent = currency_exponent(currency)
    currency_unit: int = 10**exponent
    # The exponent is checked first: 1e400000 as an integer would take seconds.
    if not amount.is_finite() or (amount and (amount < 0 or amount.adjusted() >= 15)):
        raise InvalidMessage("price_range", f"{excerpt(raw)} is not from 0 to below {MAX_PRICE:,}")
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
