"""Headers that pika cannot read, read without an error: anybody may have written them."""

import struct
from collections.abc import Callable
from typing import Any

UNREADABLE = "(unreadable headers)"
"""Name of the one header of a table that cannot be read."""

Reader = Callable[[bytes, int], tuple[Any, int]]

_FLOATS = {b"f": (">f", 4), b"d": (">d", 8)}
_TIMESTAMP = (">Q", 8)


class Unreadable:
    """A value that nobody knows, so that nobody can write it either."""


def lenient_value(read_value: Reader) -> Reader:
    """Return a reader of one value that knows numbers and times which ``read_value`` does not.

    pika cuts a float to an integer, which a NaN or an infinity has none of. It also fails at a time
    after the year 9999, which is returned as the number of its seconds.
    """

    def read(encoded: bytes, offset: int) -> tuple[Any, int]:
        kind = encoded[offset : offset + 1]
        if kind in _FLOATS:
            layout, size = _FLOATS[kind]
            return struct.unpack_from(layout, encoded, offset + 1)[0], offset + 1 + size
        try:
            return read_value(encoded, offset)
        except (ValueError, OverflowError, OSError):
            if kind != b"T":
                raise
            layout, size = _TIMESTAMP
            return struct.unpack_from(layout, encoded, offset + 1)[0], offset + 1 + size

    return read


def lenient_table(read_table: Reader) -> Reader:
    """Return a reader of a table that gives ``UNREADABLE`` alone where ``read_table`` fails.

    It fails at a type that it does not know, whose length nobody can tell, and at tables nested
    deeper than the stack.
    """

    def read(encoded: bytes, offset: int) -> tuple[Any, int]:
        try:
            return read_table(encoded, offset)
        except Exception:
            size_bytes: int = struct.unpack_from(">I", encoded, offset)[0]
            return {UNREADABLE: Unreadable()}, offset + 4 + size_bytes

    return read
