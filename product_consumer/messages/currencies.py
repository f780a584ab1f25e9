"""What a currency mark in a price means, and how each currency is written."""

import re
from typing import Final

from product_consumer.errors import InvalidMessage
from product_consumer.money import EXPONENTS
from product_consumer.text import excerpt

# How prices are commonly written where the currency is used (CLDR). EUR and CHF are in neither set:
# 1.299 and 1,299 each mean both things there.
_POINT_IS_DECIMAL = (
    "AED AUD BDT CAD CNY EGP GBP GHS HKD ILS INR KES LKR "
    "MXN MYR NGN NPR NZD PHP PKR QAR SAR SGD THB TWD USD"
)
_COMMA_IS_DECIMAL = "ARS BRL COP CZK DKK HUF IDR NOK PLN RON RSD RUB SEK TRY UAH UYU"
POINT_IS_DECIMAL: Final = frozenset(_POINT_IS_DECIMAL.split())
COMMA_IS_DECIMAL: Final = frozenset(_COMMA_IS_DECIMAL.split())

_DOLLARS = (
    "USD ARS AUD BBD BMD BND BSD BZD CAD CLP COP DOP FJD GYD HKD "
    "JMD KYD LRD MXN NAD NZD SBD SGD SRD TTD TWD UYU XCD"
)
_MARKS_OF_CODES = {
    _DOLLARS: "$ dollar dollars",
    "USD": "us$ u.s.$",
    "AUD": "a$ au$",
    "CAD": "c$ ca$",
    "HKD": "hk$",
    "MXN": "mx$",
    "NZD": "nz$",
    "SGD": "s$",
    "TWD": "nt$",
    "BRL": "r$",
    "VND": "₫ đ vnđ đồng dong",
    "EUR": "€ euro euros",
    "GBP EGP FKP GIP LBP SDG SHP SSP SYP": "£",
    "JPY CNY": "¥",
    "JPY": "円 yen jp¥",
    "CNY": "yuan rmb cn¥",
    "CNY TWD": "元",
    "KRW": "₩ 원 won",
    "THB": "฿ บาท baht",
    "IDR": "rp",
    "MYR": "rm",
    "INR": "₹",
    "INR LKR MUR NPR PKR SCR": "rs",
    "PHP": "₱",
    "ILS": "₪",
    "TRY": "₺ tl",
    "RUB": "₽ руб",  # noqa: RUF001
    "UAH": "₴ грн",
    "KZT": "₸",
    "PLN": "zł",
    "CZK": "kč",
    "HUF": "ft",
    "RON": "lei",
    "CHF": "fr sfr",
    "SEK NOK DKK ISK": "kr",
    "NGN": "₦",
    "GHS": "₵",
    "CRC": "₡",
    "PYG": "₲",
    "LAK": "₭",
    "KHR": "៛",
    "BDT": "৳",
    "MNT": "₮",
    "GEL": "₾",
    "AZN": "₼",
    "AMD": "֏",
}
_CODES_OF_MARK: Final = {
    mark: frozenset(codes.split())
    for codes, marks in _MARKS_OF_CODES.items()
    for mark in marks.split()
}
# What $, ¥ and £ alone mean unless something names another; "kr" and "Rs" have no usual meaning.
_USUAL: Final = ("USD", "JPY", "GBP")

_WITH_SYMBOL = sorted((m for m in _CODES_OF_MARK if not m.isalpha()), key=len, reverse=True)
MARK_OR_WORD: Final = re.compile(
    "|".join(map(re.escape, _WITH_SYMBOL)) + r"|[^\W\d_]+|\S", re.IGNORECASE
)
"""Splits text without digits into currency marks, words and single signs."""


def codes_of_mark(mark: str) -> frozenset[str]:
    """Return the ISO codes a mark or code may stand for, in any case; empty when it is neither."""
    if mark.upper() in EXPONENTS:
        return frozenset((mark.upper(),))
    return _CODES_OF_MARK.get(mark.casefold(), frozenset())


def choose_currency(marks: list[frozenset[str]], field: object, default_currency: str) -> str:
    """Return the currency named by the marks in a price, else by the field, else by the default.

    A shared mark ($, ¥, £, kr, Rs) is settled by the field. Raises ``InvalidMessage``:
    ``currency_mismatch`` when marks and field exclude each other, ``currency_unknown`` when
    nothing names a currency or the field is none.
    """
    named = list(marks)
    if field is not None and field != "":
        named.append(_codes_of_field(field))
    if not named:
        return _default(default_currency)
    possible = frozenset.intersection(*named)
    if not possible:
        found = " against ".join("/".join(sorted(codes)[:4]) for codes in named)
        raise InvalidMessage("currency_mismatch", f"the price and its currency disagree: {found}")
    if len(possible) == 1:
        return next(iter(possible))
    for code in (*_USUAL, default_currency):
        if code in possible:
            return code
    raise InvalidMessage("currency_unknown", f"could be any of {', '.join(sorted(possible))}")


def _codes_of_field(field: object) -> frozenset[str]:
    codes = codes_of_mark(field.strip()) if isinstance(field, str) else frozenset()
    if not codes:
        raise InvalidMessage("currency_unknown", f"currency is {excerpt(field)}")
    return codes


def _default(default_currency: str) -> str:
    if not default_currency:
        raise InvalidMessage("currency_unknown", "neither the price nor a currency field names one")
    return default_currency
