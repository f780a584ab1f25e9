"""Small rules for text from outside: what may be stored, where it is cut, how it is quoted."""

import re
import unicodedata

from product_consumer.errors import InvalidMessage

MAX_EXCERPT_CHARACTERS = 200

_NOT_ASCII = re.compile("[^\x00-\x7f]")
# PostgreSQL refuses NUL in text; a lone surrogate cannot be encoded as UTF-8 at all.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def check_text(text: str, field: str) -> str:
    """Return ``text``; raise ``InvalidMessage("text_invalid")`` where no store could hold it."""
    found = _UNSTORABLE.search(text)
    if found:
        code_point = f"U+{ord(found.group()):04X}"
        raise InvalidMessage("text_invalid", f"{field} contains {code_point} at {found.start()}")
    return text


def cut_to_bytes(text: str, max_bytes: int) -> str:
    """Return the beginning of ``text``: whole characters, at most ``max_bytes`` of UTF-8."""
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    return encoded[:max_bytes].decode("utf-8", "ignore").rstrip()


def plain_digits(text: str) -> str:
    """Return ``text`` in NFKC: every digit as 0-9, single spaces, no invisible characters.

    NFKC alone turns full-width digits into ASCII but leaves Arabic-Indic and other scripts' digits.
    """
    # ASCII has none of what is changed here, and is all that most numbers consist of.
    if not text.isascii():
        text = _NOT_ASCII.sub(_plain, unicodedata.normalize("NFKC", text))
    return " ".join(text.split())


def _plain(found: re.Match[str]) -> str:
    character = found.group()
    if unicodedata.category(character) == "Cf":
        return ""
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def excerpt(value: object) -> str:
    """Quote a value for a person: ``MAX_EXCERPT_CHARACTERS`` at most, nothing a terminal obeys.

    Control, bidirectional and invisible characters and lone surrogates are written as escapes.
    """
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = value if isinstance(value, str) else str(value)
    beginning = text[:MAX_EXCERPT_CHARACTERS]
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in beginning)
    whole = len(escaped) <= MAX_EXCERPT_CHARACTERS and beginning == text
    shown = escaped if whole else escaped[: MAX_EXCERPT_CHARACTERS - 3] + "..."
    return f'"{shown}"' if isinstance(value, str) else shown
