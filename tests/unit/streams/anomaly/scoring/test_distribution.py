import numpy as np
import pytest

from product_consumer.streams.anomaly.detector import Detector
from product_consumer.streams.anomaly.planted import Plan, planted_records
from product_consumer.streams.anomaly.scoring.base import Floats
from product_consumer.streams.anomaly.scoring.distribution import (
    FACTOR,
    KEPT_RECORDS,
    DistributionScorer,
)
from tests.support.anomalies import tally_of


def two_heaps(count: int, seed: int = 1) -> Floats:
    """Values around -5 and 5: no distance from a mean tells what lies between."""
    random = np.random.default_rng(seed)
    values: Floats = random.normal(size=(count, 2)) * 0.5 + random.choice([-5, 5], size=(count, 1))
    return values


@pytest.fixture(scope="module")
def scorer() -> DistributionScorer:
    started = DistributionScorer()
    started.start(two_heaps(300))
    return started


def test_what_lies_between_and_outside_is_rare(scorer: DistributionScorer) -> None:
    scores, _ = scorer.score(np.array([[5.0, 5.0], [-5.0, -5.0], [0.0, 0.0], [60.0, 5.0]]))
    assert scores[:2].max() < scores[2] < scores[3]
    assert (scores >= 0).all()


def test_the_wild_feature_has_most_of_the_score(scorer: DistributionScorer) -> None:
    scores, shares = scorer.score(np.array([[60.0, 5.0]]))
    assert shares.sum() == pytest.approx(scores[0])
    assert shares[0, 0] > shares[0, 1]


def test_a_row_without_values_and_wild_numbers_give_finite_scores(
    scorer: DistributionScorer,
) -> None:
    scores, _ = scorer.score(np.array([[np.nan, np.nan], [1e100, -1e100]]))
    assert np.isfinite(scores).all()


def test_spikes_are_found_and_little_else() -> None:
    plan = Plan(seed=3, records=1500)
    records = [record for record in planted_records(plan) if record.kind != "relation"]
    tally = tally_of(Detector(DistributionScorer()).judge, records)
    assert tally.recall >= 0.9
    assert tally.false <= 5


def test_constant_features_and_later_ones_are_taken() -> None:
    scorer = DistributionScorer()
    first = np.concatenate([two_heaps(300), np.full((300, 1), 7.0)], axis=1)
    scorer.start(first)
    assert scorer.score(np.array([[5.0, 5.0, 8.0]]))[0] > scorer.score(first[:1])[0] + FACTOR
    later = np.concatenate([first, two_heaps(300, seed=2)[:, :1]], axis=1)
    for _ in range(4):
        scorer.learn(later[:250])
    assert scorer.score(np.array([[5.0, 5.0, 7.0, 60.0]]))[0] > 10


def test_what_is_kept_comes_back(scorer: DistributionScorer) -> None:
    scorer.learn(two_heaps(50, seed=7))
    again = DistributionScorer()
    again.restore(scorer.arrays(), 2)
    rows = two_heaps(50, seed=8)
    assert again.score(rows)[0] == pytest.approx(scorer.score(rows)[0], abs=1.0)


@pytest.mark.parametrize("kept", [np.zeros(3), np.zeros((KEPT_RECORDS + 1, 2)), np.zeros((5, 3))])
def test_kept_records_of_another_form_are_refused(kept: Floats) -> None:
    with pytest.raises(ValueError, match="form"):
        DistributionScorer().restore({"kept": kept}, 2)
