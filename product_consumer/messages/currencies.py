"""Currency symbols and words -> ISO 4217 codes, and the decimal separator of each currency."""

import re
from typing import Final

from product_consumer.errors import InvalidMessage
from product_consumer.money import EXPONENTS
from product_consumer.text import excerpt

# The usual way to write prices where the currency is used (CLDR). EUR and CHF are in neither set:
# with them 1.299 and 1,299 are both ambiguous.
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
_SYMBOLS_OF_CODES = {
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
_CODES_OF_SYMBOL: Final = {
    symbol: frozenset(codes.split())
    for codes, symbols in _SYMBOLS_OF_CODES.items()
    for symbol in symbols.split()
}
# The meaning of $, ¥ and £ where nothing else names a currency; "kr" and "Rs" have none.
_USUAL: Final = ("USD", "JPY", "GBP")

_NOT_WORDS = sorted((s for s in _CODES_OF_SYMBOL if not s.isalpha()), key=len, reverse=True)
SYMBOL_OR_WORD: Final = re.compile(
    "|".join(map(re.escape, _NOT_WORDS)) + r"|[^\W\d_]+|\S", re.IGNORECASE
)
"""Splits text without digits into currency symbols, words and single characters."""


def codes_of_symbol(symbol: str) -> frozenset[str]:
    """Return the codes that a symbol, word or code may mean; case is ignored, empty if unknown."""
    if symbol.upper() in EXPONENTS:
        return frozenset((symbol.upper(),))
    return _CODES_OF_SYMBOL.get(symbol.casefold(), frozenset())


def choose_currency(symbols: list[frozenset[str]], field: object, default_currency: str) -> str:
    """Return the currency named by the symbols in a price, else by the field, else by the default.

    ``symbols``: the possible codes of each symbol. The field decides a shared symbol ($, ¥, £, kr,
    Rs). Raises ``InvalidMessage``: ``currency_mismatch`` when symbols and field exclude each other,
    ``currency_unknown`` when nothing names a currency, or the field names an unknown one.
    """
    named = list(symbols)
    if field is not None and field != "":
        named.append(_codes_of_field(field))
    if not named:
        return _default(default_currency)
    possible = frozenset.intersection(*named)
    if not possible:
        readings = " against ".join("/".join(sorted(codes)[:4]) for codes in named)
        raise InvalidMessage(
            "currency_mismatch", f"the price and its currency disagree: {readings}"
        )
    if len(possible) == 1:
        return next(iter(possible))
    for code in (*_USUAL, default_currency):
        if code in possible:
            return code
    raise InvalidMessage("currency_unknown", f"could be any of {', '.join(sorted(possible))}")


def _codes_of_field(field: object) -> frozenset[str]:
    codes = codes_of_symbol(field.strip()) if isinstance(field, str) else frozenset()
    if not codes:
        raise InvalidMessage("currency_unknown", f"currency is {excerpt(field)}")
    return codes


def _default(default_currency: str) -> str:
    if not default_currency:
        raise InvalidMessage("currency_unknown", "neither the price nor a currency field names one")
    return default_currency
