"""Names of files that hostile messages may choose: any text -> a name safe on every system."""

import hashlib
import re
import unicodedata
from pathlib import PurePath

from product_consumer.text import cut_to_bytes

MAX_NAME_BYTES = 150
"""Of a safe name. Every file system takes 255, and a digest may still be added."""
MAX_EXTENSION_BYTES = 20
"""A longer one, its dot included, is no extension but a part of the name."""
DIGEST_CHARACTERS = 8

_SEPARATORS = re.compile(r"[/\\]")
_FORBIDDEN = frozenset('<>:"|?*')
# Control and format characters, halves of characters, and separators of lines and paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# They shape letters of Persian and Indian languages, and join emoji.
_JOINERS = "\u200c\u200d"
# https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"}
)
# NFC takes the square of a long run of combining characters.
_MAX_BEGINNING, _MAX_END = 1000, 100


def safe_name(text: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return the last part of a path as a name for a file; empty where nothing of it is left.

    It is in NFC and has at most ``max_bytes`` of UTF-8, its extension kept. It has no separators,
    no characters that steer a terminal or that Windows forbids, no leading dots, and no trailing
    dots and spaces. The name of a device of Windows gets an underscore before it. A safe name stays
    as it is.
    """
    last = _SEPARATORS.split(text)[-1]
    if len(last) > _MAX_BEGINNING + _MAX_END:
        last = last[:_MAX_BEGINNING] + last[-_MAX_END:]
    kept = "".join(filter(_may_stand_in_a_name, unicodedata.normalize("NFC", last)))
    # What stands side by side now may belong together.
    name = unicodedata.normalize("NFC", kept).lstrip(".").rstrip(". ")
    name = _cut(name, max_bytes)
    return _cut(f"_{name}", max_bytes) if _is_device(name) else name


def safe_id(text: str, max_bytes: int) -> str:
    """Return a message's id as a part of a name; empty where nothing of it is left.

    Two ids never become one: what differs from its id ends with a digest of the id.
    """
    name = safe_name(text, max_bytes)
    if not name or name == text:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_cut(name, max_bytes - DIGEST_CHARACTERS - 1)}-{digest[:DIGEST_CHARACTERS]}"


def with_mark(name: str, mark: str) -> str:
    """Return a name with ``-mark`` before its extension: ``a.jpg`` becomes ``a-mark.jpg``."""
    stem, extension = _split(name)
    return f"{stem}-{mark}{extension}"


def _may_stand_in_a_name(character: str) -> bool:
    if character in _FORBIDDEN:
        return False
    return character in _JOINERS or unicodedata.category(character) not in _UNSEEN


def _cut(name: str, max_bytes: int) -> str:
    if len(name.encode()) <= max_bytes:
        return name
    stem, extension = _split(name)
    return cut_to_bytes(stem, max_bytes - len(extension.encode())).rstrip(". ") + extension


def _split(name: str) -> tuple[str, str]:
    extension = PurePath(name).suffix
    if len(extension.encode()) > MAX_EXTENSION_BYTES:
        extension = ""
    return name.removesuffix(extension), extension


def _is_device(name: str) -> bool:
    return name.partition(".")[0].rstrip(" ").upper() in _DEVICES
