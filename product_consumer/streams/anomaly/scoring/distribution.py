"""Scores by distribution: how rare the values of a record are, whatever their distribution.

river's LODA looks at the standardised values from a hundred random directions, and keeps a
histogram of each view. The score is the mean surprise over all views: -log of the density.
"""

from collections.abc import Mapping

import numpy as np
from river.anomaly import LODA
from river.preprocessing import StandardScaler
from river.sketch.histogram import Bin

from product_consumer.streams.anomaly.scoring.base import Floats
from product_consumer.streams.anomaly.scoring.outliers import plain_outliers

FACTOR = 10.0
LEAST = 1.0
VIEWS = 100
BINS = 10
KEPT_RECORDS = 1000
RENEWED_AFTER = 1000
"""Learnt records after which the histograms are made anew from the latest: streams drift."""
FIRST_VALUES = 30
"""Values that a feature needs among the kept records to be scored."""
_SEED = 42
_OUTSIDE_FACTOR = 5.0
_MOST_SPREADS = 1e3
_LEAST_WIDTH = 1e-3
_FOLDS = 2
_CORE = 0.75
_ROUNDS = 2
_FIRST_FACTOR = 3.0
"""Of the first records, fewer are learnt: a rare kind of them would be usual from then on."""


class DistributionScorer:
    """A ``Scorer`` by river's LODA behind its StandardScaler.

    A missing value is learnt and scored as the feature's mean.
    """

    least = LEAST

    def __init__(self, factor: float = FACTOR) -> None:
        self.factor = factor
        self._kept = np.zeros((0, 0))
        self._learnt = 0
        self._view = _View(self._kept)

    def start(self, rows: Floats) -> Floats:
        """Learn from the usual ones of these rows; score each by rows that it is not among."""
        usual = ~plain_outliers(rows, share=_CORE)
        for _ in range(_ROUNDS):
            scores, _ = _View(rows[usual]).score(rows)
            lower, upper = np.quantile(scores, [0.25, 0.75])
            usual = scores <= upper + _FIRST_FACTOR * (upper - lower)
        folds = np.arange(len(rows)) % _FOLDS
        scores = np.zeros(len(rows))
        for fold in range(_FOLDS):
            scores[folds == fold] = _View(rows[usual & (folds != fold)]).score(rows[folds == fold])[
                0
            ]
        self._renew(rows[usual])
        return scores

    def learn(self, rows: Floats) -> None:
        """Learn; from time to time, forget all but the latest records."""
        more = rows.shape[1] - self._kept.shape[1]
        kept = np.pad(self._kept, ((0, 0), (0, more)), constant_values=np.nan)
        self._kept = np.concatenate([kept, rows])[-KEPT_RECORDS:]
        self._learnt += len(rows)
        if self._learnt >= RENEWED_AFTER:
            self._renew(self._kept)
        else:
            self._view.learn(rows)

    def score(self, rows: Floats) -> tuple[Floats, Floats]:
        """Score rows; features that are not known well enough add nothing."""
        return self._view.score(rows)

    def arrays(self) -> dict[str, Floats]:
        """Return the kept records: histograms are made of them again."""
        return {"kept": self._kept.copy()}

    def restore(self, arrays: Mapping[str, Floats], width: int) -> None:
        """Take what ``arrays`` returned."""
        kept = arrays["kept"]
        if kept.ndim != 2 or len(kept) > KEPT_RECORDS or kept.shape[1] > width:
            raise ValueError("the records have no such form")
        self._renew(kept)

    def _renew(self, rows: Floats) -> None:
        self._kept = rows[-KEPT_RECORDS:]
        self._learnt = 0
        self._view = _View(self._kept)


class _View:
    """LODA and the scaler before it, learnt from some records, and arrays of their numbers.

    river gives no density to the gaps between bins, and the same one to everything outside. So its
    histograms are read as densities without gaps here, that fall off outside with the square of
    the distance. That also makes scoring fast.
    """

    def __init__(self, rows: Floats) -> None:
        self._columns = np.flatnonzero(
            (~np.isnan(rows)).sum(axis=0) >= min(FIRST_VALUES, len(rows))
        )
        if not len(rows):
            self._columns = self._columns[:0]
        self._loda = LODA(n_bins=BINS, n_random_cuts=VIEWS, seed=_SEED)
        scaler = StandardScaler()
        for row in rows[:, self._columns].tolist():
            scaler.learn_one({name: value for name, value in enumerate(row) if value == value})
        names = range(len(self._columns))
        self._means = np.array([scaler.means[name] for name in names])
        spreads = np.sqrt([scaler.vars[name] for name in names])
        hairs = np.abs(self._means) * 1e-12
        self._spreads = np.where(spreads > hairs, spreads, np.maximum(hairs, 1e-150))
        self.learn(rows)

    def learn(self, rows: Floats) -> None:
        """Learn records by the scale of the first ones."""
        if not len(self._columns):
            return
        for row in self._standardised(rows).tolist():
            self._loda.learn_one(dict(enumerate(row)))
        self._read()

    def score(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the score of each row, and what each feature adds to it."""
        shares = np.zeros(rows.shape)
        if not len(self._columns) or not len(rows):
            return np.zeros(len(rows)), shares
        surprise = self._surprise(self._standardised(rows) @ self._directions.T)
        scores = surprise.mean(axis=1)
        excess = np.maximum(surprise - self._usual, 0.0)
        # How much of the surprise the views show that look at the feature.
        of_each = excess @ self._looks
        sums = of_each.sum(axis=1)
        shares[:, self._columns] = of_each * (scores / np.where(sums > 0, sums, 1.0))[:, None]
        return scores, shares

    def _standardised(self, rows: Floats) -> Floats:
        distances = (rows[:, self._columns] - self._means) / self._spreads
        result: Floats = np.clip(np.nan_to_num(distances), -_MOST_SPREADS, _MOST_SPREADS)
        return result

    def _surprise(self, places: Floats) -> Floats:
        """Return -log of the density at places (rows, views)."""
        inner = np.empty(places.shape, np.int64)
        for view, edges in enumerate(self._edges):
            inner[:, view] = np.searchsorted(edges[1:-1], places[:, view])
        views = np.arange(places.shape[1])
        below, above = self._edges[:, 0] - places, places - self._edges[:, -1]
        outside = np.maximum(np.maximum(below, above), 0.0) / self._widths
        outside = np.minimum(outside, _MOST_SPREADS)
        result: Floats = self._inside[views, inner] + _OUTSIDE_FACTOR * outside**2
        return result

    def _read(self) -> None:
        """Read directions and histograms of LODA into arrays."""
        width = len(self._columns)
        self._directions = np.zeros((VIEWS, width))
        for view, projection in enumerate(self._loda.projections_):
            self._directions[view, list(projection)] = list(projection.values())
        self._looks = (self._directions != 0) / np.maximum((self._directions != 0).sum(0), 1)
        self._edges = np.full((VIEWS, BINS + 1), np.inf)
        self._inside = np.zeros((VIEWS, BINS))
        self._widths = np.ones(VIEWS)
        self._usual = np.zeros(VIEWS)
        for view, histogram in enumerate(self._loda.histograms_):
            self._read_histogram(view, histogram.data)

    def _read_histogram(self, view: int, bins: list[Bin]) -> None:
        left = np.array([one.left for one in bins])
        right = np.array([one.right for one in bins])
        counts = np.array([one.count for one in bins], np.float64)
        edges = np.concatenate([left[:1], (right[:-1] + left[1:]) / 2, right[-1:]])
        density = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
        surprise = -np.log(density / np.maximum(np.diff(edges), _LEAST_WIDTH))
        # From the place that surprises least: so no score is below 0.
        surprise -= surprise.min()
        middles = (left + right) / 2
        mean = np.average(middles, weights=counts)
        number = len(bins)
        # A histogram of few bins has its last edge again and again.
        self._edges[view, : number + 1], self._edges[view, number + 1 :] = edges, edges[-1]
        self._inside[view, :number], self._inside[view, number:] = surprise, surprise[-1]
        spread = np.sqrt(np.average((middles - mean) ** 2, weights=counts))
        self._widths[view] = max(spread, _LEAST_WIDTH)
        self._usual[view] = np.average(surprise, weights=counts)
