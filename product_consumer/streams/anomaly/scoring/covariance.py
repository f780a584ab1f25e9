"""Means and covariances of the latest records, by river, in blocks of which the oldest go.

A stream drifts. What a record is compared with must be recent, so records are forgotten a block at
a time. river learns the newest block; the finished ones are arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from river.covariance import EmpiricalCovariance

from product_consumer.streams.anomaly.scoring.base import Flags, Floats

BLOCK_RECORDS = 500
WIDEST_FOR_RIVER = 30
"""Features. river keeps an object for each pair: 200 features would take 8 ms for each record."""
BLOCKS = 4
"""Finished blocks that are kept: with the newest, the latest 2,000 to 2,500 records."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of some records. ``d``: the number of features."""

    records: float
    counts: Floats
    """(d): the values of each feature that were not missing."""
    means: Floats
    """(d)"""
    scatter: Floats
    """(d, d): sums of products of the distances from the means."""

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.means)

    def of_columns(self, columns: Flags) -> "Moments":
        """Return what is known of some of the features."""
        among = np.ix_(columns, columns)
        return Moments(self.records, self.counts[columns], self.means[columns], self.scatter[among])

    def widened(self, width: int) -> "Moments":
        """Return the same with more features, of which nothing is known."""
        more = width - self.width
        if not more:
            return self
        return Moments(
            self.records,
            np.pad(self.counts, (0, more)),
            np.pad(self.means, (0, more)),
            np.pad(self.scatter, ((0, more), (0, more))),
        )

    def presence(self) -> Floats:
        """Return the share of records that have each feature."""
        return self.counts / max(self.records, 1.0)


def joined(parts: Sequence[Moments], width: int) -> Moments:
    """Return what is known of the records of all parts.

    A part that knows nothing of a feature is taken to have had its usual values.
    """
    parts = [part.widened(width) for part in parts if part.records]
    if not parts:
        return Moments(0.0, np.zeros(width), np.zeros(width), np.zeros((width, width)))
    records = np.array([part.records for part in parts])
    means = np.array([part.means for part in parts])
    known = np.array([part.counts > 0 for part in parts])
    weights = np.where(known, records[:, None], 0.0)
    mean = (weights * means).sum(axis=0) / np.maximum(weights.sum(axis=0), 1.0)
    distances = np.where(known, means - mean, 0.0)
    scatter = np.array([part.scatter for part in parts]).sum(axis=0)
    scatter += (distances * records[:, None]).T @ distances
    diagonal = np.diagonal(scatter) * records.sum() / np.maximum(weights.sum(axis=0), 1.0)
    np.fill_diagonal(scatter, diagonal)
    counts = np.array([part.counts for part in parts]).sum(axis=0)
    return Moments(float(records.sum()), counts, mean, scatter)


class LatestMoments:
    """Moments of the latest records. Not thread-safe."""

    def __init__(self) -> None:
        self._finished: list[Moments] = []
        self._newest = _Block(0)

    @classmethod
    def of_first(cls, moments: Moments) -> "LatestMoments":
        """Return what begins with these: the usual ones of the first records."""
        latest = cls()
        latest._newest = _Block(moments.width)
        latest._finished = [moments]
        return latest

    def add(self, rows: Floats, counts: Floats, spare: Floats) -> None:
        """Add records whose missing values are filled in.

        ``counts``: the values of each feature that were not missing. ``spare``: the scatter that
        the filled values lack, as their own noise is not known.
        """
        if rows.shape[1] != self._newest.width:
            self._finish(rows.shape[1])
        self._newest.add(rows, counts, spare)
        if self._newest.records >= BLOCK_RECORDS:
            self._finish(rows.shape[1])

    def total(self) -> Moments:
        """Return the moments of all records that are not forgotten."""
        return joined([*self._finished, self._newest.moments()], self._newest.width)

    def recent_means(self) -> Floats:
        """Return the means of the latest 500 to 1,000 records: drift moves them first."""
        parts = [*self._finished[-1:], self._newest.moments()]
        return joined(parts, self._newest.width).means

    def forget_without(self, columns: Flags) -> None:
        """Forget finished blocks that know too little of these features to relate them."""
        parts = [*self._finished, self._newest.moments()]
        presence = np.array([part.widened(self._newest.width).presence() for part in parts])
        enough = presence[:, columns] >= presence[:, columns].max(axis=0, initial=0.0) / 2
        keeps = enough.all(axis=1)[:-1]
        self._finished = [
            part for part, is_kept in zip(self._finished, keeps, strict=True) if is_kept
        ]

    def arrays(self) -> dict[str, Floats]:
        """Return everything as arrays, with one block after another."""
        width = self._newest.width
        blocks = [block.widened(width) for block in self._finished]
        if self._newest.records:
            blocks.append(self._newest.moments())
        return {
            "records": np.array([block.records for block in blocks], np.float64),
            "counts": np.array([block.counts for block in blocks]).reshape(-1, width),
            "means": np.array([block.means for block in blocks]).reshape(-1, width),
            "scatter": np.array([block.scatter for block in blocks]).reshape(-1, width, width),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Floats]) -> "LatestMoments":
        """Return what ``arrays`` were made of; raises ``ValueError`` where they do not fit."""
        records, counts = arrays["records"], arrays["counts"]
        means, scatter = arrays["means"], arrays["scatter"]
        if records.ndim != 1 or means.ndim != 2 or counts.shape != means.shape:
            raise ValueError("the blocks differ in form")
        if scatter.shape != (*means.shape, means.shape[1]) or len(means) > BLOCKS + 1:
            raise ValueError("the blocks differ in number")
        restored = cls()
        restored._newest = _Block(means.shape[1])
        restored._finished = [
            Moments(float(number), *rest)
            for number, *rest in zip(records, counts, means, scatter, strict=True)
        ]
        return restored

    def _finish(self, width: int) -> None:
        """Begin a block; a short one before it grows by the finished one."""
        finished = [moments.widened(width) for moments in self._finished]
        if self._newest.records:
            newest = self._newest.moments().widened(width)
            if finished and finished[-1].records < BLOCK_RECORDS:
                newest = joined([finished.pop(), newest], width)
            finished.append(newest)
        self._finished = finished[-BLOCKS:]
        self._newest = _Block(width)


class _Block:
    """The newest records: river's covariance, and what it does not know."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.records = 0
        self._covariance = EmpiricalCovariance(ddof=0)
        self._counts = np.zeros(width)
        self._spare = np.zeros((width, width))
        self._wide = joined([], width)

    def add(self, rows: Floats, counts: Floats, spare: Floats) -> None:
        if self.width > WIDEST_FOR_RIVER:
            self._wide = joined([self._wide, moments_of(rows, counts, spare)], self.width)
            self.records = int(self._wide.records)
            return
        self._counts += counts
        self._spare += spare
        self.records += len(rows)
        for row in rows.tolist():
            self._covariance.update(dict(enumerate(row)))

    def moments(self) -> Moments:
        if self.width > WIDEST_FOR_RIVER:
            return self._wide
        means, scatter = np.zeros(self.width), np.zeros((self.width, self.width))
        if self.records:
            for (first, second), statistic in self._covariance.matrix.items():
                scatter[first, second] = scatter[second, first] = statistic.get()
                if first == second:
                    means[first] = statistic.mean.get()
        whole = scatter * self.records + self._spare
        return Moments(self.records, self._counts.copy(), means, whole)


def moments_of(rows: Floats, counts: Floats, spare: Floats) -> Moments:
    """Return the moments of filled rows, as ``LatestMoments.add`` takes them."""
    if not len(rows):
        return joined([], rows.shape[1])
    means = rows.mean(axis=0)
    distances = rows - means
    return Moments(len(rows), counts, means, distances.T @ distances + spare)


def correlations(moments: Moments, least_spreads: Floats) -> tuple[Floats, Floats]:
    """Return the spread of each feature, and the correlations between them.

    ``least_spreads``: what each spread is at least. The spread of a constant is a hair of its size.
    """
    variances = np.maximum(np.diagonal(moments.scatter) / max(moments.records, 1.0), 0.0)
    hairs = np.abs(moments.means) * _HAIR + _NOTHING
    spreads = np.maximum(np.sqrt(variances), np.maximum(hairs, least_spreads))
    covariances = moments.scatter / max(moments.records, 1.0)
    matrix = np.clip(covariances / spreads[:, None] / spreads[None, :], -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return spreads, matrix


def inverse(matrix: Floats, records: float) -> Floats:
    """Return the inverse of correlations that were learnt from so many records.

    It is drawn to that of independent features, the more the fewer records there are for each
    feature. So it exists for constant and for repeated features, too.
    """
    width = len(matrix)
    share = min(0.5, LEAST_SHARE + (width / max(records, 1.0)) ** 2)
    values, vectors = np.linalg.eigh((1 - share) * matrix + share * np.eye(width))
    result: Floats = (vectors / np.maximum(values, share)) @ vectors.T
    return result


LEAST_SHARE = 1e-4
"""Relations closer than a hundredth of a spread count as this close."""
_HAIR = 1e-12
_NOTHING = 1e-150
