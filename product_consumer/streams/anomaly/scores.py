"""The threshold, without labels: it follows the quartiles of the latest scores."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence

LATEST = 1000
"""How many scores the threshold is made of."""


class LatestScores:
    """The latest scores and their threshold. Not thread-safe.

    The threshold is the upper quartile plus ``factor`` times the distance between the quartiles,
    but at least ``least`` above the upper quartile: scores may be all the same.
    """

    def __init__(self, factor: float, least: float, scores: Iterable[float] = ()) -> None:
        self._factor = factor
        self._least = least
        self._latest = deque(scores, LATEST)
        self._sorted = sorted(self._latest)

    @property
    def scores(self) -> Sequence[float]:
        """The scores, the oldest first."""
        return list(self._latest)

    def threshold(self) -> float:
        """Return the score above which a record is an anomaly; 0 without any score."""
        if not self._sorted:
            return 0.0
        upper, lower = self._quantile(0.75), self._quantile(0.25)
        return upper + max(self._factor * (upper - lower), self._least)

    def add(self, score: float) -> None:
        """Add a score; the oldest goes when there are enough."""
        if len(self._latest) == LATEST:
            del self._sorted[bisect_left(self._sorted, self._latest[0])]
        self._latest.append(score)
        insort(self._sorted, score)

    def _quantile(self, share: float) -> float:
        place = share * (len(self._sorted) - 1)
        below = int(place)
        above = min(below + 1, len(self._sorted) - 1)
        weight = place - below
        return self._sorted[below] * (1 - weight) + self._sorted[above] * weight
