"""Which of a few records are too far out to learn from, before any relation is known."""

import numpy as np

from product_consumer.streams.anomaly.scoring.base import Flags, Floats

_MAD_TO_SPREAD = 1.4826
"""Of normally distributed values: their spread, in medians of their distances from the median."""
_CELLS = 3.0


def plain_distances(rows: Floats) -> Floats:
    """Return how far the farthest value of each row is from its feature's median, in spreads.

    The spreads are robust: a tenth of wild values changes them little. Missing values have none.
    """
    if not rows.size:
        return np.zeros(len(rows))
    known = np.where(np.isnan(rows), np.inf, rows)
    medians = _medians(known)
    distances = np.abs(np.where(np.isnan(rows), medians, rows) - medians)
    spreads = _medians(np.where(np.isnan(rows), np.inf, distances)) * _MAD_TO_SPREAD
    plain = distances.mean(axis=0)
    spreads = np.where(spreads > 0, spreads, np.where(plain > 0, plain, 1.0))
    result: Floats = (distances / spreads).max(axis=1)
    return result


def plain_outliers(rows: Floats, *, share: float) -> Flags:
    """Tell which rows are not among the share of those that lie farthest inside."""
    distances = plain_distances(rows)
    outside: Flags = distances > np.quantile(distances, share)
    return outside


def steep_spreads(rows: Floats) -> Floats:
    """Return the least spread of each feature that has one value nearly always; 0 for the others.

    A third of its range: a rarer value that comes again and again, such as 1 among many 0, is
    usual. What comes in less than one of a hundred records is not.
    """
    spreads = np.zeros(rows.shape[1])
    for column, values in enumerate(rows.T):
        known = values[~np.isnan(values)]
        if len(known):
            low, lower, upper, high = np.quantile(known, [0.01, 0.25, 0.75, 0.99])
            if lower == upper and high > low:
                spreads[column] = (high - low) / _CELLS
    return spreads


def _medians(values: Floats) -> Floats:
    """Return the median of each column; infinity stands for nothing, and sorts last."""
    counts = np.isfinite(values).sum(axis=0)
    middle = np.maximum(counts - 1, 0) // 2
    found = np.sort(values, axis=0)[middle, np.arange(values.shape[1])]
    return np.where(counts > 0, found, 0.0)
