"""Record -> numbers, in columns: which of its values are features, and where each stands."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from product_consumer.streams.anomaly.scoring.base import Floats

MAX_FEATURES = 200
MAX_NAME_CHARACTERS = 200
LARGEST = 1e100
"""Larger numbers count as this one: their squares must stay finite."""
SMALLEST = 1e-100
"""Smaller numbers count as 0, for the same reason."""
_MAX_NUMBER_CHARACTERS = 50

Value = object


class Features:
    """The features of a stream, in the order in which they appeared. Not thread-safe.

    Numbers are features. With ``chosen``, only the columns of these names are: truth values as 0
    and 1 and numbers in text, too.
    """

    def __init__(self, chosen: Iterable[str] = (), names: Sequence[str] = ()) -> None:
        """``names``: the columns of an earlier start."""
        self._chosen = frozenset(chosen)
        self._columns: dict[str, int] = {}
        for name in names:
            self._columns.setdefault(name, len(self._columns))

    @property
    def names(self) -> list[str]:
        """The names, in the order of the columns."""
        return list(self._columns)

    def rows(self, records: Sequence[Mapping[str, Value]]) -> Floats:
        """Return one row per record; NaN where a value is missing or is no number.

        Columns that appear for the first time are added, as long as there is room.
        """
        rows = [self._row(record) for record in records]
        width = len(self._columns)
        for row in rows:
            row.extend([math.nan] * (width - len(row)))
        return np.array(rows, np.float64).reshape(len(rows), width)

    def _row(self, record: Mapping[str, Value]) -> list[float]:
        number = self._named_number if self._chosen else _number
        columns, row = self._columns, [math.nan] * len(self._columns)
        for name, value in record.items():
            converted = number(name, value)
            if converted is None:
                continue
            column = columns.get(name)
            if column is not None:
                row[column] = converted
            elif self._add(name):
                row.append(converted)
        return row

    def _add(self, name: str) -> bool:
        """Give a new feature the next column; False where it gets none."""
        if len(self._columns) >= MAX_FEATURES or len(name) > MAX_NAME_CHARACTERS:
            return False
        self._columns[name] = len(self._columns)
        return True

    def _named_number(self, name: str, value: Value) -> float | None:
        if name not in self._chosen:
            return None
        if isinstance(value, bool):
            return float(value)
        if isinstance(value, str):
            return _number_in(value)
        return _number(name, value)


def _number(_name: str, value: Value) -> float | None:
    """Return a number within the range that is scored; None for anything else."""
    kind = type(value)
    if kind is float:
        number: float = value  # type: ignore[assignment]
    elif kind is int:
        try:
            number = float(value)  # type: ignore[arg-type]
        except OverflowError:
            number = LARGEST if value > 0 else -LARGEST  # type: ignore[operator]
    else:
        return None
    if SMALLEST < abs(number) <= LARGEST:
        return number
    if abs(number) <= SMALLEST:
        return 0.0
    # Infinity and NaN are missing values.
    return math.copysign(LARGEST, number) if math.isfinite(number) else None


def _number_in(text: str) -> float | None:
    if len(text) > _MAX_NUMBER_CHARACTERS:
        return None
    try:
        return _number("", float(text))
    except ValueError:
        return None
