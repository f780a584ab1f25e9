"""A record: the body of a message of tabular data -> its columns, and columns -> one line of JSON.

Producers in the field write what Python writes: ``NaN``, ``Infinity`` and ``-Infinity`` stand in
their JSON, and mean that a value is missing.
"""

import json
import math
from typing import Any

from product_consumer.errors import InvalidMessage
from product_consumer.models import Envelope
from product_consumer.text import excerpt

Value = str | int | float | bool | None
Record = dict[str, Value]

MAX_BODY_BYTES = 1024 * 1024
MAX_COLUMNS = 4096
MAX_DIGITS = 308
"""Of an integer: the range of a double."""
UTF8_NAMES = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii", "identity", "8bit", "binary"})
"""Values of ``content_encoding`` that leave text as it is."""


def read_text(body: str | bytes, envelope: Envelope) -> str:
    """Return a body as text, without a byte order mark.

    Raises ``InvalidMessage``: ``content_encoding``, ``encoding``.
    """
    if envelope.content_encoding.strip().lower() not in UTF8_NAMES:
        raise InvalidMessage("content_encoding", excerpt(envelope.content_encoding))
    if isinstance(body, bytes):
        try:
            body = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidMessage("encoding", f"not UTF-8 at byte {error.start}") from error
    return body.removeprefix("\ufeff")


def read_record(body: str | bytes, envelope: Envelope) -> Record:
    """Return the columns of a record, in their order; a missing value is None.

    Raises ``InvalidMessage``: ``too_large``, ``json_invalid``, ``json_not_object``,
    ``json_duplicate_key``, ``nested``, ``number_range``, ``too_many_columns``, and what
    ``read_text`` raises.
    """
    size_bytes = len(body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass"))
    if size_bytes > MAX_BODY_BYTES:
        raise InvalidMessage("too_large", f"{size_bytes} bytes; at most {MAX_BODY_BYTES}")
    value = read_json(read_text(body, envelope))
    if isinstance(value, str) and value.lstrip().startswith("{"):
        # JSON that was written twice.
        value = read_json(value)
    return as_record(value)


def read_json(text: str) -> Any:
    """Return the value of JSON as the field writes it.

    Raises ``InvalidMessage``: ``json_invalid``, ``json_duplicate_key``, ``number_range``, and
    ``nested`` for more levels than can be read.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise InvalidMessage("nested", "too many levels") from error
    except json.JSONDecodeError as error:
        beginning = excerpt(text[error.pos : error.pos + 40])
        problem = f"{error.msg} at character {error.pos}: {beginning}"
        raise InvalidMessage("json_invalid", problem) from error


def as_record(value: Any) -> Record:
    """Return the columns of decoded JSON.

    Raises ``InvalidMessage``: ``json_not_object``, ``nested``, ``too_many_columns``.
    """
    if not isinstance(value, dict):
        raise InvalidMessage("json_not_object", f"{excerpt(value)} where an object is needed")
    if len(value) > MAX_COLUMNS:
        raise InvalidMessage("too_many_columns", f"{len(value)}; at most {MAX_COLUMNS}")
    for name, column in value.items():
        if isinstance(column, dict | list):
            raise InvalidMessage("nested", f"{excerpt(name)} is {excerpt(column)}")
    return value


def json_line(record: Record, *, is_ascii: bool = False) -> str:
    """Return one line of JSON, whose control and other invisible characters are escaped.

    ``is_ascii``: so are all letters beyond ASCII.
    """
    line = json.dumps(record, ensure_ascii=is_ascii, allow_nan=False)
    if line.isprintable():
        return line
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in line
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    columns = dict(pairs)
    if len(columns) != len(pairs):
        raise InvalidMessage("json_duplicate_key", f"{len(pairs) - len(columns)} columns twice")
    return columns


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidMessage("number_range", excerpt(text))
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise InvalidMessage("number_range", f"an integer of {len(text)} digits")
    return int(text)


def _missing(_: str) -> None:
    """Return the value of ``NaN``, ``Infinity`` and ``-Infinity``."""


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_float,
    parse_int=_integer,
    parse_constant=_missing,
)
