"""The digits of a price -> its amount: which separators group, and which one is decimal.

A lone separator before exactly three digits (``1.299``) has two readings. It

- groups in a currency without decimals in use, and where no-cents marks stand behind it;
- groups where the places of the currency group with it: $1,299 and R$ 1.299 are 1299;
- is decimal where those places write decimals after it, and the currency has three: 1.299 KWD;
- is refused otherwise, whatever the digits are: 1.299 € and $1.500 are ``price_ambiguous``.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

from price_parser import parse_price as read_number

from product_consumer.errors import InvalidMessage
from product_consumer.messages.cldr import decimals_in_use, separators_of
from product_consumer.text import excerpt

ARABIC_DECIMAL = "\N{ARABIC DECIMAL SEPARATOR}"
_DECIMALS = f".,{ARABIC_DECIMAL}"
_SEPARATORS = f" .,'{ARABIC_DECIMAL}"
_SEPARATOR = re.compile(f"[{_SEPARATORS}]")
# One space joins groups of three digits only. The point of "Rs.500", "රු.500" and "B/.500" belongs
# to what stands before it; the range is the vowel signs of India, Sri Lanka and Thailand.
NUMBER = re.compile(
    r"(?:(?<![^\W\d_])(?<![/\u0900-\u0e7f])[.,])?[0-9]+"
    rf"(?:(?: (?=[0-9]{{3}}(?![0-9]))|[.,'{ARABIC_DECIMAL}])[0-9]+)*"
)


@dataclass(frozen=True, slots=True)
class WrittenNumber:
    """A number in a price. ``no_cents``: the sign of a mark such as ",-" behind it, or nothing."""

    digits: str
    no_cents: str
    price: str
    """The whole price as it came, to be quoted."""


def read_amount(number: WrittenNumber, currency: str) -> Decimal:
    """Return the amount in major units.

    Raises ``InvalidMessage``: ``price_ambiguous``, ``price_invalid``.
    """
    separator = _decimal_separator(number, currency)
    digits = f"0{number.digits}" if number.digits[0] in ".," else number.digits
    if separator == ARABIC_DECIMAL:
        digits, separator = digits.replace(ARABIC_DECIMAL, "."), "."
    amount = read_number(digits, decimal_separator=separator).amount
    if amount is None:
        raise InvalidMessage("price_invalid", f"{excerpt(number.price)} has no readable number")
    return amount


def _decimal_separator(number: WrittenNumber, currency: str) -> str | None:
    """Return the decimal separator of a number; None when all its separators make groups."""
    *groups, tail = _SEPARATOR.split(number.digits)
    separators = [character for character in number.digits if character in _SEPARATORS]
    if not separators:
        return None
    last = separators[-1]
    if (
        last in _DECIMALS
        and separators.count(last) == 1
        and _ends_groups(groups, separators, tail, number, currency)
    ):
        _check_groups(groups, separators[:-1], number.price)
        return last
    _check_groups([*groups, tail], separators, number.price)
    return None


def _ends_groups(
    groups: list[str], separators: list[str], tail: str, number: WrittenNumber, currency: str
) -> bool:
    """Tell whether the last separator, the only one of its kind, is the decimal separator."""
    if number.no_cents in (".", ","):
        return False
    last, is_lone = separators[-1], len(separators) == 1
    if len(tail) != 3 or {".", ","} <= set(separators):
        return True
    if is_lone and (not 1 <= len(groups[0]) <= 3 or groups[0].startswith("0")):
        return True
    if is_lone and number.no_cents:
        return False
    return _is_decimal_by_custom(last, is_lone, number.price, currency)


def _is_decimal_by_custom(sign: str, is_lone: bool, price: str, currency: str) -> bool:
    decimals, custom = decimals_in_use(currency), separators_of(currency)
    if is_lone and sign != ARABIC_DECIMAL and (decimals == 0 or sign in custom.grouping):
        return False
    # "1 299,500" is grouped already, so its comma does not group.
    if decimals == 3 and (not is_lone or sign in custom.decimal or sign == ARABIC_DECIMAL):
        return True
    raise InvalidMessage("price_ambiguous", f"{excerpt(price)} in {currency}: group or decimals?")


def _check_groups(groups: list[str], separators: list[str], price: str) -> None:
    if not separators:
        return
    lengths = [len(group) for group in groups]
    by_thousands = 1 <= lengths[0] <= 3 and set(lengths[1:]) == {3}
    # 1,29,900: Indian groups, lakh and crore.
    indian = (
        separators[0] == "," and lengths[0] <= 2 and lengths[-1] == 3 and set(lengths[1:-1]) == {2}
    )
    if len(set(separators)) > 1 or groups[0].startswith("0") or not (by_thousands or indian):
        raise InvalidMessage("price_invalid", f"{excerpt(price)} is not grouped like a number")
