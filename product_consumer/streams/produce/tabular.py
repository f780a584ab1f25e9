"""Rows of a CSV file as records: drawn at random, each with the time at which it was drawn."""

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from random import Random
from secrets import token_hex
from time import time
from uuid import uuid4

from product_consumer.errors import ConfigurationError
from product_consumer.models import Envelope
from product_consumer.queues.base import Outgoing
from product_consumer.streams.headers import APP_ID
from product_consumer.text import excerpt

Cell = str | int | float | bool
Row = dict[str, Cell]

TIME_COLUMNS = ("created", "datetime")
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"

_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_DECIMAL = re.compile(
    r"[+-]?(?:[0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,4})?"
)
_BOOLEANS = {"True": True, "False": False, "TRUE": True, "FALSE": False}
# As pandas reads them, with which such files are written.
_MISSING = frozenset(
    {"", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "-nan", "-NaN", "null", "NULL", "None", "#N/A"}
)


def read_table(path: Path, setting: str) -> list[Row]:
    """Return the rows of a CSV file in UTF-8, whose first row names the columns.

    A column of numbers, or of booleans, gets such values; a cell without a value is NaN, whatever
    the column. Raises ``ConfigurationError``, which names ``setting``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = [line for line in csv.reader(file, strict=True) if line]
    except OSError as error:
        raise ConfigurationError(setting, f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(setting, f"{path}: is not text in UTF-8") from None
    except csv.Error as error:
        raise ConfigurationError(setting, f"{path}: {error}") from None
    except ValueError:
        # No line to unpack, or a NUL in the path.
        raise ConfigurationError(setting, f"{path}: has no row that names the columns") from None
    _check(header, lines, path, setting)
    columns = [_typed([line[number] for line in lines]) for number in range(len(header))]
    return [dict(zip(header, cells, strict=True)) for cells in zip(*columns, strict=True)]


def records(rows: Sequence[Row], number: int, random: Random | None = None) -> Iterator[Outgoing]:
    """Yield ``number`` records, or records without end for 0: rows drawn with replacement.

    ``created`` and ``datetime`` are the local time at which a record is made.
    """
    # Nobody is to be kept from guessing which row comes next.
    draw = random or Random()  # noqa: S311
    # Rows are written once: JSON takes longer than everything else here.
    place = f"time-{token_hex(16)}"
    bodies = [json.dumps(row | dict.fromkeys(TIME_COLUMNS, place)) for row in rows]
    # Two equal records of one second are two records.
    run_id = uuid4()
    clock = _Clock()
    numbers: Iterable[int] = range(number) if number else count()
    for at in numbers:
        moment, local = clock.now()
        message_id = f"{run_id}-{at}"
        envelope = Envelope(
            message_id=message_id,
            correlation_id=message_id,
            content_type="application/json",
            app_id=APP_ID,
            timestamp=moment,
        )
        yield Outgoing(draw.choice(bodies).replace(place, local), {}, envelope)


class _Clock:
    """The time to the second, and how records write it."""

    def __init__(self) -> None:
        self._second = 0
        self._shown = (datetime.fromtimestamp(0, UTC), "")

    def now(self) -> tuple[datetime, str]:
        second = int(time())
        if second != self._second:
            moment = datetime.fromtimestamp(second, UTC)
            self._second = second
            self._shown = (moment, moment.astimezone().strftime(TIME_FORMAT))
        return self._shown


def _check(header: list[str], lines: list[list[str]], path: Path, setting: str) -> None:
    if not lines:
        raise ConfigurationError(setting, f"{path}: has no row below the names of its columns")
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        raise ConfigurationError(setting, f"{path}: has two columns {excerpt(repeated)}")
    for number, line in enumerate(lines, 2):
        if len(line) > len(header):
            problem = f"row {number} has {len(line)} cells, and {len(header)} columns are named"
            raise ConfigurationError(setting, f"{path}: {problem}")
        # Spreadsheets leave out empty cells at the end of a row.
        line += [""] * (len(header) - len(line))


def _typed(cells: list[str]) -> list[Cell]:
    """Return the cells of a column as numbers or booleans where all that have a value are such."""
    known = [cell for cell in cells if cell.strip() not in _MISSING]
    for kind in (_integer, _decimal, _BOOLEANS.get):
        values = {cell: kind(cell.strip()) for cell in known}
        if known and None not in values.values():
            return [_or_missing(values.get(cell)) for cell in cells]
    return [_or_missing(None if cell.strip() in _MISSING else cell) for cell in cells]


def _or_missing(value: Cell | None) -> Cell:
    return math.nan if value is None else value


def _integer(cell: str) -> int | None:
    return int(cell) if _INTEGER.fullmatch(cell) else None


def _decimal(cell: str) -> float | None:
    return float(cell) if _DECIMAL.fullmatch(cell) else None
