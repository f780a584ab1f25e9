"""What stands beside the number of a price: marks of currencies, labels, and signs without meaning.

Any other word may change the amount ("12k", "1.2 triệu", "12 per month"), so it is refused.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator

from product_consumer.errors import InvalidMessage
from product_consumer.messages.currency_marks import Mark, belongs_to, find_mark, known_mark
from product_consumer.text import excerpt

# Vowel signs are part of a word, though they are no letters. They lie between these two.
_COMBINING = "".join(
    chr(code) for code in range(0x300, 0x1D00) if unicodedata.category(chr(code)).startswith("M")
)
_TOKEN = re.compile(rf"[^\W\d_](?:[^\W\d_]|[{_COMBINING}])*|\S")
_PLUS_TAX = re.compile(
    r"\+ ?(?=(?:vat|gst|mwst|ust|iva|tva|dph|moms|btw|kdv|tax)\b)", re.IGNORECASE
)
_IN_BRACKETS = re.compile(r"\(([^()]*)\)")
_LONGEST_MARK = 8
"""In words and signs: CLDR's names of currencies have up to seven."""

_HARMLESS = frozenset(
    # Signs, among them footnote marks.
    (
        *(":", "/", ".", ",", ";", "!", "*", "\N{DAGGER}", "\N{DOUBLE DAGGER}", "|", '"'),
        # Labels of a price.
        *("giá", "bán", "price", "only", "now", "our", "your", "cena", "běžná", "bežná", "naše"),
        *("naša", "nasza", "prezzo", "precio", "preço", "preis", "prix", "pris", "prijs", "цена"),
        *("fiyat", "fiyati", "harga", "ціна", "kaina", "hind", "hinta", "ár", "pvp"),
        # One piece.
        *("cái", "chiếc", "each", "piece", "ea", "pc", "шт", "stück", "pièce", "szt"),
        # With tax or without: the price is the one that the shop shows.
        *("incl", "inkl", "inc", "inclusa", "incluido", "včetně", "vč", "brutto", "ttc"),
        *("excl", "exkl", "ex", "exc", "esclusa", "bez", "netto", "ht"),
        *("tax", "vat", "gst", "mwst", "ust", "iva", "tva", "dph", "moms", "btw", "kdv", "ндс"),
    )
)
_OPEN_ENDED = frozenset(
    ("from", "ab", "từ", "desde", "da", "dès", "vanaf", "från", "fra", "od", "от", "від", "partir")
)
# Ten rials: people write the one and say the other.
_TENFOLD = frozenset(("تومان", "تومن", "toman", "tomans"))
# Behind a number these letters are thousands, millions and billions before they are currencies.
_MULTIPLIERS = frozenset("kmbtкмт")


def read_words(side: str, price: str, is_behind: bool, currency: str) -> list[Mark]:
    """Return the marks of currencies on one side of the number.

    ``currency``: the code in the message's field, or nothing. Its signs and names in every
    language are marks too. Raises ``InvalidMessage`` for what is neither mark nor harmless:
    ``price_invalid``, ``price_ambiguous`` (the start of a range), ``currency_unknown``.
    """
    mark = _usual_mark(side.strip(), currency)
    if mark is not None:
        return [mark]
    # An abbreviation of "price" is one word.
    side = _PLUS_TAX.sub("", _IN_BRACKETS.sub(r" \1 ", side)).replace("P.V.P.", "PVP").strip()
    tokens = list(_TOKEN.finditer(side))
    if not tokens:
        return []
    if not is_behind:
        _check_open_end(tokens, price)
    found = _marks(side, tokens, lambda text: _usual_mark(text, currency))
    if found is None:
        _check_multiplier(side, price, is_behind)
        found = _marks(side, tokens, lambda text: _mark_in_any_language(text, currency))
    if found is None:
        raise _unexpected(side, price, currency)
    return found


def _marks(
    side: str, tokens: list[re.Match[str]], look_up: Callable[[str], Mark | None]
) -> list[Mark] | None:
    """Return the marks in the tokens, longest first; None where a token is no mark."""
    marks, position = [], 0
    while position < len(tokens):
        for end in range(min(len(tokens), position + _LONGEST_MARK), position, -1):
            text = side[tokens[position].start() : tokens[end - 1].end()]
            mark = look_up(text)
            if mark is not None:
                marks.append(mark)
                break
        else:
            end = position + 1
            if tokens[position].group().casefold() not in _HARMLESS:
                return None
        position = end
    return marks


def _is_article(text: str) -> bool:
    """Tell whether a sign has a small letter before it, as in "a $5 mug": not A$."""
    return len(text) > 2 and text[0].islower() and text[1] == " "


def _usual_mark(text: str, currency: str) -> Mark | None:
    if _is_article(text):
        return None
    mark = known_mark(text)
    if mark and currency and currency not in mark.codes and belongs_to(text, currency):
        # Languages share words: "сум" is the som of Uzbekistan, and in Tatar the rouble.
        return Mark(frozenset((currency,)))
    return mark


def _mark_in_any_language(text: str, currency: str) -> Mark | None:
    if _is_article(text):
        return None
    if currency and belongs_to(text, currency):
        return Mark(frozenset((currency,)))
    return find_mark(text)


def _check_open_end(tokens: list[re.Match[str]], price: str) -> None:
    words = (token.group() for token in tokens)
    if any(word.casefold() in _OPEN_ENDED and not word.isupper() for word in words):
        raise _open_ended(price)


def _check_multiplier(side: str, price: str, is_behind: bool) -> None:
    words = side.split()
    if is_behind and words and words[0].strip(".,").casefold() in _MULTIPLIERS:
        raise InvalidMessage("price_invalid", f"{excerpt(words[0])} in {excerpt(price)}")


def _open_ended(price: str) -> InvalidMessage:
    return InvalidMessage("price_ambiguous", f"{excerpt(price)} is the start of a range")


def _unexpected(side: str, price: str, currency: str) -> InvalidMessage:
    words = list(_words(side, currency))
    if any(word.casefold() in _OPEN_ENDED for word in words):
        return _open_ended(price)
    if any(word.casefold() in _TENFOLD for word in words):
        return InvalidMessage("price_ambiguous", f"{excerpt(price)}: one toman is ten rials")
    if re.fullmatch("[A-Z]{3}", words[0]):
        return InvalidMessage("currency_unknown", f"{words[0]} in {excerpt(price)}")
    return InvalidMessage("price_invalid", f"{excerpt(words[0])} in {excerpt(price)}")


def _words(side: str, currency: str) -> Iterator[str]:
    """Yield the tokens that are neither marks nor harmless; all of them when each is."""
    tokens = _TOKEN.findall(side)
    unknown = [
        token
        for token in tokens
        if token.casefold() not in _HARMLESS and _mark_in_any_language(token, currency) is None
    ]
    yield from unknown or tokens
