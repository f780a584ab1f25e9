"""How currencies are written in all places of the world: the data of Unicode's CLDR, from Babel.

The files of all locales take about a second to read. So signs and names are read once, when a price
has a mark that ``currency_marks`` does not know. Separators are read for one currency at a time.
"""

import pickle
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from babel import Locale, UnknownLocaleError, localedata
from babel.core import get_global
from babel.numbers import get_currency_precision, get_territory_currencies

from product_consumer.money import EXPONENTS
from product_consumer.text import plain_digits

_NOT_A_COUNTRY = ("EU", "X")
_DROPPED: Final = str.maketrans("", "", " .'`\u2018\u2019\u02bb\u02bc\u200b")


@dataclass(frozen=True, slots=True)
class Separators:
    """The signs that group digits, and the signs before decimals, in the places of a currency."""

    grouping: frozenset[str]
    decimal: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Written:
    """What all locales write for currencies. Signs and names are folded, and lead to codes."""

    signs: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    names_of_codes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def fold(text: str) -> str:
    """Return a mark as it is compared: without case, spaces, points and apostrophes."""
    return plain_digits(text).casefold().translate(_DROPPED)


@cache
def decimals_in_use(currency: str) -> int:
    """Return how many decimals prices have: 0 for IDR and IQD, whatever ISO 4217 says."""
    return get_currency_precision(currency)


@cache
def separators_of(currency: str) -> Separators:
    """Return the separators that all places of a currency share.

    The place of USD is the United States: Ecuador writes its dollars otherwise. A currency of no
    one country has the separators on which all its countries agree; the euro has none.
    """
    country = currency[:2]
    users = _users(currency) if country.startswith(_NOT_A_COUNTRY) else [country]
    if not users:
        return Separators(frozenset(), frozenset())
    grouping, decimal = _separators_of_locale(f"und_{users[0]}")
    for user in users[1:]:
        if not grouping and not decimal:
            break
        its_grouping, its_decimal = _separators_of_locale(f"und_{user}")
        grouping, decimal = grouping & its_grouping, decimal & its_decimal
    if decimals_in_use(currency) == 3:
        # Here both readings of 1,299 make sense. A minority that reads it otherwise counts too.
        for name in localedata.locale_identifiers():
            if name.endswith(f"_{country}"):
                its_grouping, its_decimal = _separators_of_locale(name)
                grouping, decimal = grouping - its_decimal, decimal - its_grouping
    return Separators(frozenset(grouping), frozenset(decimal))


def codes_of_sign(folded: str) -> frozenset[str]:
    """Return the currencies that some locale writes with a sign."""
    return frozenset(_written().signs.get(folded, ()))


def codes_of_name(folded: str) -> frozenset[str]:
    """Return the currencies that some language calls by a name."""
    return frozenset(_written().names.get(folded, ()))


def is_word_of_name(folded: str, currency: str) -> bool:
    """Tell whether a word is part of some language's name of the currency: "dollars" of USD."""
    return len(folded) > 1 and folded in _words_of_names(currency)


def _users(currency: str) -> list[str]:
    return sorted(
        place
        for place in get_global("territory_currencies")
        if currency in get_territory_currencies(place)
    )


def _separators_of_locale(name: str) -> tuple[set[str], set[str]]:
    """Return grouping and decimal signs; of "und_US", those of most people in the United States."""
    try:
        symbols: Any = Locale.parse(name).number_symbols
    except (UnknownLocaleError, ValueError):
        return set(), set()
    latin = symbols.get("latn", {})
    return (
        {latin[name] for name in ("group", "currencyGroup") if name in latin},
        {latin[name] for name in ("decimal", "currencyDecimal") if name in latin},
    )


@cache
def _words_of_names(currency: str) -> frozenset[str]:
    names = _written().names_of_codes.get(currency, ())
    return frozenset(fold(word) for name in names for word in name.split())


@cache
def _written() -> _Written:
    signs, names = set(), set()
    for data in _locales():
        signs.update(data.get("currency_symbols", {}).items())
        names.update(data.get("currency_names", {}).items())
        for code, forms in data.get("currency_names_plural", {}).items():
            names.update((code, form) for form in forms.values())
    written = _Written()
    for code, sign in signs:
        if code in EXPONENTS and sign != code and fold(sign):
            written.signs[fold(sign)].add(code)
    for code, name in names:
        if code in EXPONENTS:
            written.names[fold(name)].add(code)
            written.names_of_codes[code].add(name)
    return written


def _locales() -> Iterator[Any]:
    """Read the files of all locales. A locale's parents are locales too, so none is merged.

    Not by ``localedata.load``, which keeps all of them: some 150 MB.
    """
    for name in localedata.locale_identifiers():
        data = Path(localedata.resolve_locale_filename(name)).read_bytes()
        yield pickle.loads(data)  # noqa: S301  (a file of the package Babel)
