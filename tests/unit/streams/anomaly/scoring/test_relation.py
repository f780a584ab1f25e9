import numpy as np
import pytest

from product_consumer.streams.anomaly.scoring.base import Floats
from product_consumer.streams.anomaly.scoring.relation import LATER_VALUES, RelationScorer


def related(count: int, seed: int = 1) -> Floats:
    """Three features that a fourth part of their spread keeps apart."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(count, 1))
    values: Floats = common * [1.0, 100.0, -5.0] + random.normal(size=(count, 3)) * [0.1, 10, 0.5]
    return values


@pytest.fixture
def scorer() -> RelationScorer:
    started = RelationScorer()
    started.start(related(300))
    return started


def test_a_usual_row_scores_low_and_a_broken_relation_high(scorer: RelationScorer) -> None:
    scores, _ = scorer.score(np.array([[1.0, 100.0, -5.0], [1.0, 100.0, 5.0]]))
    assert scores[0] < 2
    assert scores[1] > 10


def test_the_shares_add_up_and_the_broken_feature_has_nearly_all(scorer: RelationScorer) -> None:
    scores, shares = scorer.score(np.array([[1.0, 100.0, 5.0]]))
    assert shares.sum() == pytest.approx(scores[0])
    assert shares[0, 2] > 0.9 * scores[0]


def test_a_missing_value_breaks_no_relation(scorer: RelationScorer) -> None:
    """At the plain mean it would: the others are two spreads from theirs."""
    scores, shares = scorer.score(np.array([[2.0, np.nan, -10.0], [2.0, np.nan, 10.0]]))
    assert scores[0] < 3
    assert scores[1] > 10
    assert (shares[:, 1] == 0).all()


def test_scores_stay_as_they_are_while_values_are_missing_at_random() -> None:
    random = np.random.default_rng(3)
    gaps = RelationScorer()
    rows = related(2000)
    rows[random.random(rows.shape) < 0.3] = np.nan
    gaps.start(rows[:300])
    for start in range(300, 2000, 50):
        gaps.learn(rows[start : start + 50])
    whole = RelationScorer()
    whole.start(related(300))
    fresh = related(500, seed=9)
    mine, theirs = gaps.score(fresh)[0], whole.score(fresh)[0]
    assert np.median(mine) == pytest.approx(np.median(theirs), rel=0.25)


def test_a_row_without_values_scores_nothing(scorer: RelationScorer) -> None:
    scores, shares = scorer.score(np.full((2, 3), np.nan))
    assert scores.tolist() == [0.0, 0.0]
    assert not shares.any()


def test_wild_rows_among_the_first_are_not_learnt() -> None:
    rows = related(300)
    rows[::20, 0] += 50.0
    scorer = RelationScorer()
    scores = scorer.start(rows)
    assert scores[::20].min() > 20
    assert np.median(scores) < 3
    assert scorer.score(np.array([[3.0, 100.0, -5.0]]))[0][0] > 8


def test_a_later_feature_counts_once_it_has_warmed_up(scorer: RelationScorer) -> None:
    later = np.concatenate([related(LATER_VALUES, seed=4)] * 2, axis=1)[:, :4]
    wild = np.array([[1.0, 100.0, -5.0, 99.0]])
    for start in range(0, LATER_VALUES - 50, 50):
        scorer.learn(later[start : start + 50])
    assert scorer.score(wild)[0][0] < 3
    scorer.learn(later[-50:])
    assert scorer.score(wild)[0][0] > 20


def test_many_features_and_few_rows_give_finite_scores() -> None:
    scorer = RelationScorer()
    rows = np.random.default_rng(5).normal(size=(60, 200))
    assert np.isfinite(scorer.start(rows)).all()
    assert np.isfinite(scorer.score(rows)[0]).all()
