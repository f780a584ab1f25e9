"""What is known of the relations at one moment, ready for scoring and for missing values."""

import numpy as np

from product_consumer.streams.anomaly.scoring.base import Flags, Floats
from product_consumer.streams.anomaly.scoring.covariance import Moments, correlations, inverse

MOST = 1e6
"""Spreads; a larger distance counts as this one."""
_KEPT_PATTERNS = 64
_NOTHING = 1e-12


class View:
    """Means, spreads and the inverse of the correlations of the features that are scored."""

    def __init__(self, moments: Moments, means: Floats, steep: Floats, columns: Flags) -> None:
        """``means``: of recent records. ``steep``: least spreads. ``columns``: the scored."""
        self._all_means = means
        self._all_variances = np.diagonal(moments.scatter) / max(moments.records, 1.0)
        self._known = moments.counts > 0
        self._columns = np.flatnonzero(columns)
        chosen = moments.of_columns(columns)
        self._means = means[columns]
        self._spreads, matrix = correlations(chosen, steep[columns])
        self._precision = inverse(matrix, chosen.records)
        self._by_pattern: dict[bytes, _Pattern] = {}

    def score(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the score of each row, and what each feature adds to it."""
        scores = np.zeros(len(rows))
        shares = np.zeros(rows.shape)
        if not len(self._columns):
            return scores, shares
        distances = self._distances(rows)
        missing = np.isnan(distances)
        if not missing.any():
            scores[:], shares[:, self._columns] = _measure(distances, self._precision)
            return scores, shares
        for chosen, pattern in self._patterns(missing):
            there = pattern.there
            if there.any():
                some = distances[chosen][:, there]
                scores[chosen], of_each = _measure(some, pattern.precision)
                shares[np.ix_(chosen, self._columns[there])] = of_each
        return scores, shares

    def filled(self, rows: Floats) -> tuple[Floats, Floats, Floats]:
        """Return rows to learn from, without missing values.

        With them: how many values of each feature there were, and the scatter that the filled
        values lack. A missing value becomes the mean that the others of its record let expect. The
        plain mean would break every relation that the feature is part of.
        """
        width = rows.shape[1]
        missing = np.isnan(rows)
        counts = (~missing).sum(axis=0).astype(np.float64)
        spare = np.zeros((width, width))
        if not missing.any():
            return rows, counts, spare
        filled = np.where(missing, self._plain_means(rows, counts), rows)
        gaps = missing.sum(axis=0)
        known = len(self._all_variances)
        variances = np.zeros(width)
        variances[:known] = self._all_variances
        np.fill_diagonal(spare, gaps * variances)
        if len(self._columns):
            self._fill_by_relation(rows, filled, spare)
        return filled, counts, spare

    def _fill_by_relation(self, rows: Floats, filled: Floats, spare: Floats) -> None:
        distances = self._distances(rows)
        columns, spreads = self._columns, self._spreads
        spare[np.ix_(columns, columns)] = 0.0
        missing = np.isnan(distances)
        for chosen, pattern in self._patterns(missing):
            gone = ~pattern.there
            if gone.any():
                expected = distances[chosen][:, pattern.there] @ pattern.expectation.T
                values = self._means[gone] + expected * spreads[gone]
                filled[np.ix_(chosen, columns[gone])] = values
                noise = pattern.noise * np.outer(spreads[gone], spreads[gone])
                spare[np.ix_(columns[gone], columns[gone])] += chosen.sum() * noise

    def _plain_means(self, rows: Floats, counts: Floats) -> Floats:
        """Return the mean of each feature: what is known, else of the rows themselves."""
        sums: Floats = np.where(np.isnan(rows), 0.0, rows).sum(axis=0)
        means = sums / np.maximum(counts, 1.0)
        known = np.flatnonzero(self._known)
        means[known] = self._all_means[known]
        return means

    def _distances(self, rows: Floats) -> Floats:
        distances = (rows[:, self._columns] - self._means) / self._spreads
        clipped: Floats = np.clip(distances, -MOST, MOST)
        return clipped

    def _patterns(self, missing: Flags) -> "list[tuple[Flags, _Pattern]]":
        """Return which rows miss the same features, and what is known for these."""
        keys = [row.tobytes() for row in missing]
        found = []
        for key in set(keys):
            pattern = self._by_pattern.get(key)
            if pattern is None:
                pattern = _Pattern(self._precision, ~np.frombuffer(key, np.bool_))
                if len(self._by_pattern) < _KEPT_PATTERNS:
                    self._by_pattern[key] = pattern
            found.append((np.array([other == key for other in keys]), pattern))
        return found


class _Pattern:
    """The relations of records that have only some of the features."""

    def __init__(self, precision: Floats, there: Flags) -> None:
        """``there``: which features the records have."""
        self.there = there
        own = precision[np.ix_(there, there)]
        across = precision[np.ix_(there, ~there)]
        self.noise: Floats = np.linalg.inv(precision[np.ix_(~there, ~there)]).astype(np.float64)
        """Covariances of the missing values around what is expected of them."""
        self.expectation: Floats = -self.noise @ across.T
        """What the present values let expect of the missing ones, from the means, in spreads."""
        self.precision: Floats = own + across @ self.expectation


def _measure(distances: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Return the score of each row, and what each feature adds to it.

    ``distances``: from the means, in spreads.
    """
    width = distances.shape[1]
    diagonal = np.diagonal(precision)
    pulled = distances @ precision
    # Each value's distance from what the other values let expect, in spreads of such distances.
    squares = pulled**2 / diagonal
    worst = squares.argmax(axis=1)
    whole = np.maximum((pulled * distances).sum(axis=1), 0.0)
    # Wilson and Hilferty: the cube root of such a sum is normally distributed.
    step = 2.0 / (9.0 * width)
    as_one = (np.cbrt(whole / width) - (1.0 - step)) / np.sqrt(step)
    of_worst = squares[np.arange(len(worst)), worst]
    scores = np.minimum(np.maximum(np.sqrt(of_worst), as_one), MOST)
    # The worst value makes others look odd. What it does not explain is theirs.
    rows = precision[worst]
    ratio = pulled[np.arange(len(worst)), worst] / diagonal[worst]
    variances = diagonal - rows**2 / diagonal[worst][:, None]
    shares = (pulled - ratio[:, None] * rows) ** 2 / np.maximum(variances, _NOTHING)
    shares[np.arange(len(worst)), worst] = 0.0
    sums = shares.sum(axis=1)
    unexplained = np.maximum(whole - of_worst, 0.0)
    shares *= (unexplained / np.where(sums > 0, sums, 1.0))[:, None]
    shares[np.arange(len(worst)), worst] = of_worst
    sums = shares.sum(axis=1)
    return scores, shares * (scores / np.where(sums > 0, sums, 1.0))[:, None]
