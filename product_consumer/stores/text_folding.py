"""Words as a person types them: without case, accents and special Latin letters.

Gives SQLite's full-text search what Elasticsearch's ``standard`` tokenizer with the filters
``lowercase`` and ``asciifolding`` gives: "ao thun" finds "Áo thun", "dam" finds "Đầm".
"""

import unicodedata

MAX_QUERY_CHARACTERS = 512
"""A search reads no more of its text. Engines limit the clauses of a query (Elasticsearch:
``indices.query.bool.max_clause_count``), and nobody types more."""

# Only these combining characters are dropped. The vowel signs of Thai and Hindi and the voicing
# marks of Japanese are combining too, and words that differ in them are different words.
_FIRST_DIACRITIC, _LAST_DIACRITIC = "\u0300", "\u036f"

# Letters in use that Unicode does not decompose; asciifolding maps them to the same ASCII.
_LATIN_LETTERS = str.maketrans(
    "đðɖɗħıłŋøŧəƀɓƈɛƒǥɨƙɲɔɵƭʉʋƴƶǝĸ",
    "ddddhilnotabbcefgiknootuvyzeq",
) | str.maketrans({"æ": "ae", "œ": "oe", "þ": "th"})


def fold(text: str) -> str:
    """Return ``text`` in lower case, its Latin letters reduced to ASCII."""
    decomposed = unicodedata.normalize("NFKD", text)
    letters = "".join(c for c in decomposed if not _FIRST_DIACRITIC <= c <= _LAST_DIACRITIC)
    return unicodedata.normalize("NFC", letters.casefold().translate(_LATIN_LETTERS))


def words(text: str) -> list[str]:
    """Return the folded words of ``text`` in order: runs of letters, digits and combining marks.

    Chinese and hiragana are written without spaces: each character becomes a word.
    """
    return "".join(map(_spaced, fold(text))).split()


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
