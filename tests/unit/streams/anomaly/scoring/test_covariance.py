import numpy as np
import pytest

from product_consumer.streams.anomaly.scoring.base import Floats
from product_consumer.streams.anomaly.scoring.covariance import (
    BLOCK_RECORDS,
    BLOCKS,
    WIDEST_FOR_RIVER,
    LatestMoments,
    correlations,
    inverse,
    joined,
    moments_of,
)


def rows(count: int, width: int = 3, seed: int = 1) -> Floats:
    random = np.random.default_rng(seed)
    values: Floats = random.normal(size=(count, width)) * 5 + random.normal(size=(count, 1)) + 1e6
    return values


def add(latest: LatestMoments, some: Floats) -> None:
    width = some.shape[1]
    latest.add(some, np.full(width, float(len(some))), np.zeros((width, width)))


@pytest.mark.parametrize("width", [3, WIDEST_FOR_RIVER + 1])
def test_the_moments_of_batches_are_those_of_all_rows(width: int) -> None:
    latest, every = LatestMoments(), rows(BLOCK_RECORDS * 2 + 70, width)
    for start in range(0, len(every), 50):
        add(latest, every[start : start + 50])
    total = latest.total()
    assert total.records == len(every)
    assert total.means == pytest.approx(every.mean(axis=0))
    assert total.scatter / len(every) == pytest.approx(np.cov(every.T, bias=True), rel=1e-6)


def test_old_records_are_forgotten() -> None:
    latest = LatestMoments()
    for seed in range(BLOCKS + 3):
        add(latest, rows(BLOCK_RECORDS, seed=seed) + 1000 * seed)
    assert latest.total().records == BLOCKS * BLOCK_RECORDS
    assert latest.total().means.mean() > 1e6 + 3000
    assert latest.recent_means().mean() > 1e6 + 5900


def test_the_moments_come_back_from_arrays() -> None:
    latest = LatestMoments()
    add(latest, rows(730))
    add(latest, rows(20, width=4))
    again = LatestMoments.of_arrays(latest.arrays())
    assert again.total().records == 750
    assert again.total().scatter == pytest.approx(latest.total().scatter)


def test_a_feature_that_a_part_does_not_know_keeps_its_mean_and_variance() -> None:
    old, new = rows(300, width=2), rows(300, width=3, seed=2)
    parts = [
        moments_of(part, np.full(part.shape[1], 300.0), np.zeros((part.shape[1],) * 2))
        for part in (old, new)
    ]
    total = joined(parts, 3)
    assert total.means[2] == pytest.approx(new[:, 2].mean())
    assert total.scatter[2, 2] / 600 == pytest.approx(new[:, 2].var(), rel=1e-6)


def test_constant_and_repeated_features_have_an_inverse() -> None:
    some = rows(300, width=4)
    some[:, 1], some[:, 2] = 7.0, some[:, 0] * 2
    moments = moments_of(some, np.full(4, 300.0), np.zeros((4, 4)))
    spreads, matrix = correlations(moments, np.zeros(4))
    assert (spreads > 0).all()
    assert np.isfinite(inverse(matrix, 300)).all()
