"""Words as a person types them: without case, accents, special Latin letters and invisible marks.

Gives SQLite's full-text search what Elasticsearch's ``standard`` tokenizer with the filters
``lowercase`` and ``asciifolding`` gives: "ao thun" finds "Áo thun", "dam" finds "Đầm".
"""

import re
import unicodedata

MAX_QUERY_CHARACTERS = 512
"""A search reads no more of its text. Engines limit the clauses of a query (Elasticsearch:
``indices.query.bool.max_clause_count``), and nobody types more."""

# Format characters that are seen: signs above Arabic, Syriac and Kaithi numbers.
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2\U000110bd\U000110cd")
# Thai, Lao, Tibetan, Burmese and Khmer are written without spaces: there this space parts words.
_NO_WIDTH = "\N{ZERO WIDTH SPACE}"
_WITHOUT_SPACES = re.compile("[\u0e00-\u109f\u1780-\u17ff]")
# They make one emoji of several, or a flag, and the joiner shapes letters of India and Sri Lanka.
_JOINING = re.compile("[\u200d\U000e0020-\U000e007f]")
# What is left of a joined emoji where only words count.
_NO_PART_OF_A_WORD = re.compile("[\u200d\ufe00-\ufe0f]")

# Only these combining characters are dropped. The vowel signs of Thai and Hindi and the voicing
# marks of Japanese are combining too, and words that differ in them are different words.
_FIRST_DIACRITIC, _LAST_DIACRITIC = "\u0300", "\u036f"

# Letters in use that Unicode does not decompose; asciifolding maps them to the same ASCII.
_LATIN_LETTERS = str.maketrans(
    "đðɖɗħıłŋøŧəƀɓƈɛƒǥɨƙɲɔɵƭʉʋƴƶǝĸ",
    "ddddhilnotabbcefgiknootuvyzeq",
) | str.maketrans({"æ": "ae", "œ": "oe", "þ": "th"})


def visible(text: str) -> str:
    """Return ``text`` without the characters that nobody sees or types between letters.

    Soft hyphens, the non-joiner of Persian and marks of direction are some. A joiner stays where it
    changes what is seen.
    """
    if text.isascii():
        return text
    kept = [" "]
    for character in text:
        if unicodedata.category(character) != "Cf" or _is_seen(character, kept[-1]):
            kept.append(character)
    return "".join(kept[1:])


def fold(text: str) -> str:
    """Return ``text`` in lower case, its Latin letters reduced to ASCII."""
    decomposed = unicodedata.normalize("NFKD", text)
    letters = "".join(c for c in decomposed if not _FIRST_DIACRITIC <= c <= _LAST_DIACRITIC)
    return unicodedata.normalize("NFC", letters.casefold().translate(_LATIN_LETTERS))


def words(text: str) -> list[str]:
    """Return the folded words of ``text`` in order: runs of letters, digits and combining marks.

    Chinese and hiragana are written without spaces: each character becomes a word.
    """
    letters = _NO_PART_OF_A_WORD.sub("", fold(visible(text)))
    return "".join(map(_spaced, letters)).split()


def _is_seen(character: str, before: str) -> bool:
    if character == _NO_WIDTH:
        return _WITHOUT_SPACES.match(before) is not None
    if _JOINING.match(character):
        return not (before.isalnum() or before.isspace())
    return character in _SEEN


def _spaced(character: str) -> str:
    if _stands_alone(character):
        return f" {character} "
    if character.isalnum() or unicodedata.category(character).startswith("M"):
        return character
    return " "


def _stands_alone(character: str) -> bool:
    """Whether it is hiragana or a Chinese character."""
    return (
        "\u3041" <= character <= "\u3096"
        or "\u3400" <= character <= "\u9fff"
        or "\uf900" <= character <= "\ufaff"
        or "\U00020000" <= character <= "\U0003ffff"
    )
