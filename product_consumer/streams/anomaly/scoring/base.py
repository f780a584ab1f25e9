"""Scorer: the contract between the detector and what it scores with."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Scorer(Protocol):
    """What a detector scores with. Not thread-safe: the detector has the lock.

    ``rows``: one record each, one feature a column; NaN where a value is missing. The columns of a
    later call may be more, never fewer, and keep their order.
    """

    factor: float
    """How many quartile ranges the threshold lies above the upper quartile of the scores."""
    least: float
    """How far it lies above the upper quartile at least."""

    def start(self, rows: Floats) -> Floats:
        """Forget everything and learn from these; return the score each has for the others."""
        ...

    def learn(self, rows: Floats) -> None:
        """Learn from records that are usual."""
        ...

    def score(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the score of each row, and what each feature adds to it."""
        ...

    def arrays(self) -> dict[str, Floats]:
        """Return all that is learnt, as copies."""
        ...

    def restore(self, arrays: Mapping[str, Floats], width: int) -> None:
        """Take what ``arrays`` returned; ``width``: the features that there are.

        Raises ``ValueError`` or ``KeyError`` for anything else.
        """
        ...
