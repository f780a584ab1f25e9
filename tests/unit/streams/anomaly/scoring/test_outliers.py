import numpy as np

from product_consumer.streams.anomaly.scoring.outliers import (
    plain_distances,
    plain_outliers,
    steep_spreads,
)


def test_a_tenth_of_wild_values_does_not_hide_itself() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 3))
    rows[::10, 1] = 1e6
    distances = plain_distances(rows)
    assert distances[::10].min() > 1000
    assert plain_outliers(rows, share=0.9)[::10].all()


def test_missing_values_and_constants_lie_nowhere() -> None:
    rows = np.array([[np.nan, 7.0], [1.0, 7.0], [2.0, 7.0], [np.nan, 7.0]])
    assert np.isfinite(plain_distances(rows)).all()
    assert plain_distances(np.full((3, 2), np.nan)).tolist() == [0.0] * 3


def test_a_value_that_is_rare_but_comes_again_has_a_spread() -> None:
    rows = np.zeros((200, 3))
    rows[::20, 0] = 3.0
    rows[0, 1] = 3.0
    rows[:, 2] = np.arange(200)
    assert steep_spreads(rows).tolist() == [1.0, 0.0, 0.0]
