"""Scores by relation: how far a record lies from what its features are together otherwise.

The distance is Mahalanobis' one. It also finds a value that is usual by itself and does not fit
the other values of its record.
"""

from collections.abc import Mapping

import numpy as np

from product_consumer.streams.anomaly.scoring.base import Flags, Floats
from product_consumer.streams.anomaly.scoring.covariance import LatestMoments, joined, moments_of
from product_consumer.streams.anomaly.scoring.outliers import plain_outliers, steep_spreads
from product_consumer.streams.anomaly.scoring.relation_view import View

FACTOR = 3.0
"""Of records whose values are normally distributed, 2 in 10,000 lie above the threshold."""
LEAST = 2.0
FIRST_VALUES = 30
"""Values a feature needs at a start to be scored."""
LATER_VALUES = 300
"""Values that a feature needs when it appears later: it warms up as the detector does."""
_ROUNDS = 8
_CORE = 0.75
_FOLDS = 5


class RelationScorer:
    """A ``Scorer`` by the covariances of the latest records.

    The score is in spreads: how far the value that fits worst lies from what the others let expect,
    or, where that is more, how unusual the record is as a whole, as a deviation of one value.
    """

    least = LEAST

    def __init__(self, factor: float = FACTOR) -> None:
        self.factor = factor
        self._latest = LatestMoments()
        self._steep = np.zeros(0)
        self._active: Flags = np.zeros(0, np.bool_)
        self._view = View(joined([], 0), np.zeros(0), self._steep, self._active)

    def start(self, rows: Floats) -> Floats:
        """Learn from the usual ones of these rows; score each by rows that it is not among."""
        self._steep = steep_spreads(rows)
        self._active = (~np.isnan(rows)).sum(axis=0) >= min(FIRST_VALUES, max(2, len(rows) // 2))
        view, usual = self._usual(rows)
        scores = np.zeros(len(rows))
        folds = np.arange(len(rows)) % _FOLDS
        for fold in range(_FOLDS):
            is_judged = folds == fold
            of_others = self._view_of(rows[usual & ~is_judged], view)
            scores[is_judged] = of_others.score(rows[is_judged])[0]
        self._latest = LatestMoments.of_first(moments_of(*view.filled(rows[usual])))
        self._look()
        return scores

    def learn(self, rows: Floats) -> None:
        """Learn, and compare with what is known now from here on."""
        if not rows.size:
            return
        more = rows.shape[1] - len(self._active)
        self._steep = np.pad(self._steep, (0, more))
        self._active = np.pad(self._active, (0, more))
        self._latest.add(*self._view.filled(rows))
        counts = self._latest.total().counts
        appeared = ~self._active & (counts >= LATER_VALUES)
        if appeared.any():
            self._latest.forget_without(appeared)
        # One that has been forgotten, because it never came any more, warms up again.
        self._active = (self._active & (counts > 0)) | appeared
        self._look()

    def score(self, rows: Floats) -> tuple[Floats, Floats]:
        """Score rows by what is known; features that are not known well enough add nothing."""
        return self._view.score(rows)

    def arrays(self) -> dict[str, Floats]:
        """Return the moments, and which features are scored."""
        return {
            **self._latest.arrays(),
            "active": self._active.astype(np.float64),
            "steep": self._steep.copy(),
        }

    def restore(self, arrays: Mapping[str, Floats], width: int) -> None:
        """Take what ``arrays`` returned."""
        latest = LatestMoments.of_arrays(arrays)
        active, steep = arrays["active"] > 0, arrays["steep"]
        if active.shape != (latest.total().width,) or steep.shape != active.shape:
            raise ValueError("the features differ in number")
        if len(active) > width or any(np.isnan(array).any() for array in arrays.values()):
            raise ValueError("the features are others")
        self._latest, self._active, self._steep = latest, active, steep
        self._look()

    def _look(self) -> None:
        total, means = self._latest.total(), self._latest.recent_means()
        self._view = View(total, means, self._steep, self._active)

    def _usual(self, rows: Floats) -> tuple[View, Flags]:
        """Return what is usual, and which rows are, beginning with the most usual ones.

        The relations are learnt again and again from the rows that fit them best.
        """
        usual = ~plain_outliers(rows, share=_CORE)
        view = View(joined([], rows.shape[1]), np.zeros(rows.shape[1]), self._steep, self._active)
        for round_ in range(_ROUNDS):
            before, view = usual, self._view_of(rows[usual], view)
            scores, _ = view.score(rows)
            if round_ < _ROUNDS - 3:
                limit = np.quantile(scores, _CORE)
            else:
                lower, upper = np.quantile(scores, [0.25, 0.75])
                limit = upper + max(self.factor * (upper - lower), self.least)
            usual = scores <= limit
            if round_ >= _ROUNDS - 3 and (usual == before).all():
                break
        return view, usual

    def _view_of(self, rows: Floats, before: View) -> View:
        """Return what these rows show; ``before`` fills in what is missing."""
        moments = moments_of(*before.filled(rows))
        return View(moments, moments.means, self._steep, self._active)
