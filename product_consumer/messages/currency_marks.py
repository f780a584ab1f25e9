"""Signs, words and codes of currencies as shops write them -> the ISO 4217 codes they may mean.

The table here holds what CLDR does not say: which signs are shared, and what shops write besides.
Whatever is not in the table is looked for in CLDR.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from product_consumer.messages import cldr
from product_consumer.messages.cldr import fold
from product_consumer.money import EXPONENTS

_DOLLARS = (
    "USD ARS AUD BBD BMD BND BOB BSD BZD CAD CLP COP CUP DOP FJD GYD HKD JMD KYD LRD MOP MXN NAD "
    "NIO NZD SBD SGD SRD SVC TOP TTD TWD UYU WST XCD ZWG"
)
_POUNDS = "GBP EGP FKP GIP LBP SDG SHP SSP SYP"
_FRANCS = "CHF BIF CDF DJF GNF KMF RWF XAF XOF XPF"
_PESOS = "ARS CLP COP CUP DOP MXN PHP UYU"
_MARKS_OF_CODES: Final = {
    _DOLLARS: "$ dollar dollars",
    _POUNDS: "£ ₤ pound pounds جنيه",
    _FRANCS: "fr frs ₣ franc francs franken",
    _PESOS: "peso pesos",
    "USD": "u$s u$d u$ us-$ usdollar usdollars доллар доллара долларов",
    "AUD": "a$ au$",
    "CAD NIO": "c$",
    "CAD": "can$ cdn$ $c",
    "HKD": "hk$",
    "MXN": "mx$ mex$",
    "NZD": "nz$",
    "SGD": "s$",
    "TWD": "nt$ ntd",
    "BRL": "r$ br$",
    "BBD": "bds$",
    "JMD": "j$",
    "TTD": "tt$",
    "NAD": "n$",
    "XCD": "ec$",
    "UYU": "$u",
    "BOB": "$b",
    "COP": "col$",
    "VND": "₫ đ vnđ đồng dong",
    "EUR": "€ є euro euros евро",
    "JPY CNY": "¥ ұ",
    "JPY": "円 日元 yen",
    "CNY": "yuan rmb 人民币 人民幣 元人民币 元人民幣",
    "CNY HKD MOP SGD TWD": "元 圆 圓",
    "KRW KPW": "₩ 원 won",
    "THB": "฿ บาท baht",
    "IDR": "rp rupiah",
    "MYR": "rm",
    "INR": "₹ र",
    "INR LKR MUR NPR PKR SCR": "rs re rupee rupees",
    "LKR NPR": "रु රු",
    "PHP": "₱",
    "ILS": '₪ nis ש"ח ש״ח',
    "TRY": "₺ tl",
    "RUB": "₽ рубрф",
    "RUB BYN": "руб р рубль рубля рублей ruble rubles rub",
    "BYN ETB": "br",
    "UAH": "₴ грн",
    "KZT": "₸ тг",
    "KRW": "kr₩",
    "UZS": "сум сўм",
    "UZS KGS": "soʻm som",  # noqa: RUF001
    "KGS": "⃀ сом",
    "PLN": "zł zl zlotych złotych",
    "CZK": "kč kc",
    "HUF": "ft huf",
    "RON MDL": "lei leu",
    "RON": "ron",
    "CHF": "sfr",
    "SEK NOK DKK ISK": "kr kronor kroner krona krone krónur",
    "NGN": "₦",
    "GHS": "₵ gh₵ gh¢",
    "CRC": "₡",
    "PYG": "₲",
    "LAK": "₭",
    "KHR": "៛",
    "BDT": "৳ tk",
    "MNT": "₮",
    "GEL": "₾",
    "AZN": "₼",
    "AMD": "֏",
    "AFN": "؋",
    "PEN": "s/",
    "XAF XOF": "fcfa cfa",
    "AWG XCG": "ƒ",
    "MKD RSD": "ден den",
    "IRR OMR QAR SAR YER": "ریال ريال rial riyal rials riyals",
    "SAR SCR": "sr",
    "AED MAD": "dh dhs dirham dirhams درهم",
    "KWD BHD IQD JOD TND DZD LYD RSD MKD": "dinar dinars dinara دينار دینار",
    "KES SOS TZS UGX": "sh shs shilling shillings",
    "BOB VES": "bs",
    "BHD": "bd",
    "KWD": "kd",
    "LYD": "ld",
    "ZMW": "zk",
    "KES": "kshs",
    "EGP": "e£ £e",
    "EGP SLE": "le",
    "LBP": "l£",
    "SYP": "s£",
    "ZWG": "z$",
}
_MARKS_OF_USUAL_CODES: Final = {
    "USD": "$ dollar dollars",
    "JPY": "¥",
    "GBP": "£ pound pounds",
    "CAD": "c$",
    "CNY": "元 圆 圓",
    "RUB": "руб р рубль рубля рублей rub",
    "RON": "lei leu",
    "CHF": "fr",
    "KRW": "₩ 원 won",
}
"""What a shared mark means where nothing else names a currency. "kr" and "Rs" have no such meaning,
because none of their currencies is much more usual than the others.
"""

_USUAL: Final = {
    mark: code for code, marks in _MARKS_OF_USUAL_CODES.items() for mark in marks.split()
}
_REMEMBERED = 2048
"""Texts whose meaning is kept: shops write few different ones."""
# Letters that look like those of a mark, in small letters. The first is eth: "VNÐ" for "VNĐ".
_LOOK_ALIKES = str.maketrans("ðɖ₤ұ", "đđ£¥")
_CYRILLIC, _LATIN = "авекмнорстухіјѕ", "abekmhopctyxijs"
_TO_LATIN: Final = str.maketrans(_CYRILLIC, _LATIN)
_TO_CYRILLIC: Final = str.maketrans(_LATIN, _CYRILLIC)
# Apart from their sign: "$80 US", "CA 25 $".
_COUNTRIES: Final = {
    letters: code
    for code, names in {
        "USD": "us usa",
        "CAD": "ca can",
        "AUD": "au aus",
        "NZD": "nz",
        "HKD": "hk",
        "SGD": "sg",
        "MXN": "mx mex",
    }.items()
    for letters in names.split()
}
# Signs of CLDR that are something else more often than money.
_NOT_MONEY = frozenset(("ar", "cg", "da", "kg", "le", "ls", "up"))
# Codes that are words of English. In small letters they are words.
_WORDS = frozenset(("ALL", "BAM", "CUP", "GEL", "MAD", "MOP", "PEN", "SOS", "TOP", "TRY"))


@dataclass(frozen=True, slots=True)
class Mark:
    """What a sign or word may mean. ``certain``: it names a currency, and cannot be anything else.

    "L" beside a number may be lempiras or litres. Such a mark supports a currency that the
    message or the settings name, and names none itself.
    """

    codes: frozenset[str]
    usual: str | None = None
    certain: bool = True


def _table() -> dict[str, Mark]:
    codes_of: dict[str, set[str]] = {}
    for codes, marks in _MARKS_OF_CODES.items():
        for mark in marks.split():
            codes_of.setdefault(fold(mark).translate(_LOOK_ALIKES), set()).update(codes.split())
    for sign, codes in (("$", _DOLLARS), ("£", _POUNDS), ("¥", "JPY CNY")):
        for code in codes.split():
            # "CA$", "$CA" and "CAD$": the letters tell whose dollar it is.
            for letters in (code[:2].casefold(), code.casefold()):
                codes_of.setdefault(letters + sign, set()).add(code)
                codes_of.setdefault(sign + letters, set()).add(code)
    return {mark: Mark(frozenset(codes), _USUAL.get(mark)) for mark, codes in codes_of.items()}


_MARKS: Final = _table()


@lru_cache(_REMEMBERED)
def known_mark(text: str) -> Mark | None:
    """Return what a code, or a mark of the table here, means; None for any other text."""
    folded = fold(text).translate(_LOOK_ALIKES)
    mark = _code(folded, text) or _MARKS.get(folded)
    if mark is None and folded in _COUNTRIES and text.isupper():
        return Mark(frozenset((_COUNTRIES[folded],)), certain=False)
    return mark


@lru_cache(_REMEMBERED)
def find_mark(text: str) -> Mark | None:
    """Return what a code, sign or name of a currency means, in any language; None for any other."""
    folded = fold(text).translate(_LOOK_ALIKES)
    for spelling in _spellings(folded):
        mark = _code(spelling, text) or _MARKS.get(spelling) or _mark_of_cldr(spelling, text)
        if mark is not None:
            return mark
    return None


def belongs_to(text: str, currency: str) -> bool:
    """Tell whether some locale uses the text as the sign, the name or a word of a currency."""
    folded = fold(text)
    is_sign = currency in cldr.codes_of_sign(folded) and not _is_unit(folded, text)
    return is_sign or cldr.is_word_of_name(folded, currency)


def _code(folded: str, text: str) -> Mark | None:
    code = folded.upper()
    if len(code) != 3 or code not in EXPONENTS:
        return None
    return Mark(frozenset((code,)), certain=code not in _WORDS or text.isupper())


def _mark_of_cldr(folded: str, text: str) -> Mark | None:
    codes = cldr.codes_of_sign(folded)
    if codes and not _is_unit(folded, text):
        is_letter = len(folded) == 1 and folded.isalpha()
        return Mark(codes, certain=not is_letter and folded not in _NOT_MONEY)
    codes = cldr.codes_of_name(folded)
    # One word may name the money of more countries than CLDR says: "frank", "rial".
    return Mark(codes, certain=" " in text or not folded.isascii()) if codes else None


def _is_unit(folded: str, text: str) -> bool:
    """Tell whether a text is a unit: g and kg are; G and Kg. are signs of Haiti and Curaçao."""
    return len(folded) <= 2 and folded.isascii() and folded.isalpha() and text.islower()


def _spellings(folded: str) -> tuple[str, ...]:
    """Return a mark, and its spellings in one alphabet where it mixes Latin and Cyrillic."""
    if folded.isascii() or not re.search("[а-яіјѕ]", folded):  # noqa: RUF001
        return (folded,)
    in_latin = folded.translate(_TO_LATIN)
    if not in_latin.isascii() and not re.search("[a-z]", folded):
        return (folded,)
    return (folded, in_latin, folded.translate(_TO_CYRILLIC))
