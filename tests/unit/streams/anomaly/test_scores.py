import numpy as np
import pytest

from product_consumer.streams.anomaly.scores import LATEST, LatestScores


def test_the_threshold_is_the_upper_quartile_and_some_quartile_ranges() -> None:
    values = np.random.default_rng(1).exponential(size=700)
    latest = LatestScores(3.0, 0.0, values)
    lower, upper = np.quantile(values, [0.25, 0.75])
    assert latest.threshold() == pytest.approx(upper + 3 * (upper - lower))


def test_only_the_latest_thousand_scores_count() -> None:
    values = np.random.default_rng(2).exponential(size=2500)
    latest = LatestScores(3.0, 0.0)
    for value in values.tolist():
        latest.add(value)
    lower, upper = np.quantile(values[-LATEST:], [0.25, 0.75])
    assert latest.threshold() == pytest.approx(upper + 3 * (upper - lower))
    assert latest.scores == values[-LATEST:].tolist()


def test_equal_scores_leave_the_least_distance() -> None:
    assert LatestScores(3.0, 2.0, [0.5] * 10).threshold() == 2.5


def test_without_scores_the_threshold_is_zero() -> None:
    assert LatestScores(3.0, 2.0).threshold() == 0.0
