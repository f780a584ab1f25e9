"""Rules for text from outside: which may be stored, how it is cleaned, cut and quoted."""

import html
import re
import unicodedata
from html.entities import html5

from product_consumer.errors import InvalidMessage

MAX_EXCERPT_CHARACTERS = 200

_NOT_ASCII = re.compile("[^\x00-\x7f]")
# PostgreSQL refuses NUL in text; a lone surrogate cannot be encoded as UTF-8 at all.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# JSON's decoder joins the two halves of a character, so any that is left has lost the other. The
# joiner before it would have tied it to an emoji.
_HALF = re.compile("\u200d?[\ud800-\udfff]")
# U+D800 is left out: what it begins, U+10000 to U+103FF, is in no script that shops write.
_HALF_AT_THE_END = re.compile("\u200d?[\ud801-\udfff]\\Z")
_AFTER_A_CUT = " \t\r\n.\N{HORIZONTAL ELLIPSIS}"
# HTML reads some names without their semicolon, too: it would make "dollars¢s" of "dollars&cents".
_ENTITY = re.compile(
    r"&(?:#(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6});|#(?:[0-9]{2,7}|[xX][0-9a-fA-F]{2,6})"
    r"|[A-Za-z][A-Za-z0-9]{1,31};|(?:amp|nbsp|quot|lt|gt)(?![A-Za-z0-9;=]))"
)
# A soft hyphen and a byte order mark show nothing and join nothing.
_SHOWS_NOTHING = re.compile("[\u00ad\ufeff]")


def check_text(text: str, field: str) -> str:
    """Return ``text``; raise ``InvalidMessage("text_invalid")`` where no store could hold it."""
    unstorable = _UNSTORABLE.search(text)
    if unstorable:
        code_point = f"U+{ord(unstorable.group()):04X}"
        detail = f"{field} contains {code_point} at {unstorable.start()}"
        raise InvalidMessage("text_invalid", detail)
    return text


def without_halves(text: str) -> str:
    """Return ``text`` without the halves of characters that a producer cut through."""
    return text if text.isascii() else _HALF.sub("", text)


def without_half_at_the_end(text: str) -> str:
    """Return ``text`` without half a character at its end, or before the dots of a cut."""
    if text.isascii():
        return text
    stem = text.rstrip(_AFTER_A_CUT)
    return _HALF_AT_THE_END.sub("", stem) + text[len(stem) :]


def clean_label(text: str) -> str:
    """Return a name as a page shows it: entities of HTML resolved, no soft hyphens.

    Entities are resolved twice, as OpenCLIP does before it embeds a name: crawlers escape what is
    escaped already. The result has no outer spaces.
    """
    if "&" in text:
        text = _ENTITY.sub(_character, _ENTITY.sub(_character, text))
    return _SHOWS_NOTHING.sub("", text).strip()


def cut_to_bytes(text: str, max_bytes: int) -> str:
    """Return the longest beginning of ``text`` that fits in ``max_bytes`` of UTF-8.

    Characters stay whole. A lone surrogate, which UTF-8 cannot encode, becomes a question mark.
    """
    return text.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")


def plain_digits(text: str) -> str:
    """Return ``text`` in NFKC: every digit as 0-9, single spaces, no invisible characters.

    NFKC alone turns full-width digits into ASCII but leaves Arabic-Indic and other scripts' digits.
    """
    # ASCII needs none of these changes, and most numbers are plain ASCII.
    if not text.isascii():
        text = _NOT_ASCII.sub(_plain, unicodedata.normalize("NFKC", text))
    return " ".join(text.split())


def _character(match: re.Match[str]) -> str:
    entity = match.group()
    is_known = entity[1] == "#" or entity[1:] in html5
    return html.unescape(entity) if is_known else entity


def _plain(match: re.Match[str]) -> str:
    character = match.group()
    if unicodedata.category(character) == "Cf":
        return ""
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def printable(text: str) -> str:
    """Escape all characters that could forge a line or steer a terminal.

    These are control, bidirectional, invisible and other unprintable characters, and lone
    surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def excerpt(value: object) -> str:
    """Quote a value for a person: ``MAX_EXCERPT_CHARACTERS`` at most, and ``printable``."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = value if isinstance(value, str) else str(value)
    beginning = text[:MAX_EXCERPT_CHARACTERS]
    escaped = printable(beginning)
    whole = len(escaped) <= MAX_EXCERPT_CHARACTERS and beginning == text
    cut = escaped if whole else escaped[: MAX_EXCERPT_CHARACTERS - 3] + "..."
    return f'"{cut}"' if isinstance(value, str) else cut
