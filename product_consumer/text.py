"""Rules for text from outside: which text may be stored, where it is cut, how it is quoted."""

import re
import unicodedata

from product_consumer.errors import InvalidMessage

MAX_EXCERPT_CHARACTERS = 200

_NOT_ASCII = re.compile("[^\x00-\x7f]")
# PostgreSQL refuses NUL in text; a lone surrogate cannot be encoded as UTF-8 at all.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def check_text(text: str, field: str) -> str:
    """Return ``text``; raise ``InvalidMessage("text_invalid")`` where no store could hold it."""
    unstorable = _UNSTORABLE.search(text)
    if unstorable:
        code_point = f"U+{ord(unstorable.group()):04X}"
        detail = f"{field} contains {code_point} at {unstorable.start()}"
        raise InvalidMessage("text_invalid", detail)
    return text


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
