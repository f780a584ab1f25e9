import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_consumer.streams.anomaly.detector import Detector
from product_consumer.streams.anomaly.planted import Plan, planted_records
from product_consumer.streams.anomaly.scoring.relation import RelationScorer
from product_consumer.streams.anomaly.verdict import Verdict
from tests.support.anomalies import tally_of

Records = list[dict[str, Any]]


def detector(relearn: int = 200, chosen: Sequence[str] = ()) -> Detector:
    return Detector(RelationScorer(), relearn=relearn, chosen=chosen)


def level(middle: float, count: int, seed: int = 1) -> Records:
    """Records of two values that go together, around a middle."""
    random = np.random.default_rng(seed)
    values = middle + random.normal(size=count)
    return [
        {"a": value, "b": 2 * value + noise}
        for value, noise in zip(values.tolist(), random.normal(size=count).tolist(), strict=True)
    ]


def judged(subject: Detector, records: Records) -> list[Verdict]:
    return [verdict for record in records for verdict in subject.judge([record])]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_anomalies_are_found(seed: int) -> None:
    tally = tally_of(detector().judge, list(planted_records(Plan(seed=seed, records=4000))))
    assert tally.precision >= 0.9
    assert tally.recall >= 0.9


def test_anomalies_among_the_first_records_do_not_hide_later_ones() -> None:
    records = list(planted_records(Plan(seed=4, records=3000, share=0.05)))
    tally = tally_of(detector().judge, records)
    assert min(tally.precision, tally.recall) >= 0.9


def test_a_usual_value_that_breaks_its_relation_is_found_and_named() -> None:
    subject = detector()
    judged(subject, level(10.0, 400))
    verdict = subject.judge([{"a": 11.5, "b": 2 * 8.5}])[0]
    assert verdict.is_anomaly
    assert sum(verdict.features.values()) == pytest.approx(verdict.score, abs=0.001)


def test_the_feature_that_is_wild_contributes_most() -> None:
    subject = detector()
    for record in planted_records(Plan(seed=7, records=1000, share=0.0)):
        subject.judge([record.values])
    verdict = subject.judge([{**record.values, "current": 99.0}])[0]
    assert max(verdict.features, key=lambda name: verdict.features[name]) == "current"


def test_the_first_300_records_never_alert_and_say_that_they_warm_up() -> None:
    subject = detector()
    verdicts = judged(subject, level(10.0, 250) + level(500.0, 49) + level(10.0, 2))
    assert [verdict.warming_up for verdict in verdicts] == [True] * 300 + [False]
    assert not any(verdict.is_anomaly for verdict in verdicts[:300])
    assert [verdict.seen for verdict in verdicts] == list(range(1, 302))


def test_a_verdict_agrees_with_its_threshold() -> None:
    verdicts = judged(detector(), level(10.0, 350) + level(30.0, 5))
    assert all(
        verdict.is_anomaly == (verdict.score > verdict.threshold)
        for verdict in verdicts
        if not verdict.warming_up
    )


def test_a_level_shift_is_flagged_at_first_and_then_learnt() -> None:
    subject = detector(relearn=200)
    judged(subject, level(10.0, 400))
    verdicts = judged(subject, level(40.0, 400, seed=2))
    assert all(verdict.is_anomaly for verdict in verdicts[:200])
    assert sum(verdict.is_anomaly for verdict in verdicts[200:]) <= 4
    assert subject.judge([{"a": 10.0, "b": 20.0}])[0].is_anomaly


def test_a_level_shift_is_not_learnt_before_the_chosen_number() -> None:
    subject = detector(relearn=600)
    judged(subject, level(10.0, 400))
    assert all(verdict.is_anomaly for verdict in judged(subject, level(40.0, 600, seed=2)))
    assert not subject.judge([{"a": 40.0, "b": 80.0}])[0].is_anomaly


def test_a_fault_of_a_sensor_is_not_learnt_and_hides_nothing_afterwards() -> None:
    subject = detector()
    judged(subject, level(10.0, 600))
    judged(subject, level(40.0, 150, seed=2))
    judged(subject, level(10.0, 100, seed=3))
    assert subject.judge([{"a": 40.0, "b": 80.0}])[0].is_anomaly
    assert subject.judge([{"a": 11.5, "b": 17.0}])[0].is_anomaly


def test_more_noise_than_before_does_not_alert_for_ever() -> None:
    subject = detector()
    judged(subject, level(10.0, 400))
    noisy = [
        {"a": 10 + 3 * (record["a"] - 10), "b": 20 + 3 * (record["b"] - 20)}
        for record in level(10.0, 3000, seed=2)
    ]
    verdicts = judged(subject, noisy)
    assert sum(verdict.is_anomaly for verdict in verdicts[-1000:]) <= 20


def test_missing_values_alone_are_no_anomaly() -> None:
    subject = detector()
    random = np.random.default_rng(5)
    records = level(10.0, 1500)
    for record in records:
        for name in ("a", "b"):
            if random.random() < 0.2:
                record[name] = None
    verdicts = judged(subject, records)
    assert sum(verdict.is_anomaly for verdict in verdicts) <= 5
    assert subject.judge([{"a": 30.0}])[0].is_anomaly


def test_a_record_without_any_feature_is_no_anomaly() -> None:
    subject = detector()
    judged(subject, level(10.0, 350))
    verdict = subject.judge([{"text": "nothing"}])[0]
    assert (verdict.score, verdict.is_anomaly, verdict.features) == (0.0, False, {})


def test_constant_and_repeated_features_change_nothing() -> None:
    plan = Plan(seed=8, records=2500)
    records = [
        {**record.values, "constant": 7, "zero": 0, "again": record.values["current"] * 2}
        for record in planted_records(plan)
        if record.kind is None
    ]
    verdicts = judged(detector(), records)
    assert sum(verdict.is_anomaly for verdict in verdicts) <= 5


def test_a_constant_that_changes_is_an_anomaly() -> None:
    subject = detector()
    judged(subject, [record | {"state": 0} for record in level(10.0, 400)])
    assert subject.judge([{"a": 10.0, "b": 20.0, "state": 5}])[0].is_anomaly


def test_a_rare_value_that_comes_again_and_again_is_usual() -> None:
    random = np.random.default_rng(6)
    records = [record | {"click": int(random.random() < 0.05)} for record in level(10.0, 1500)]
    verdicts = judged(detector(), records)
    assert sum(verdict.is_anomaly for verdict in verdicts) <= 5


def test_a_feature_that_appears_later_is_learnt_from_then_on() -> None:
    subject = detector()
    judged(subject, level(10.0, 400))
    later = [record | {"new": 5 + 0.1 * record["a"]} for record in level(10.0, 700, seed=2)]
    verdicts = judged(subject, later)
    assert sum(verdict.is_anomaly for verdict in verdicts) <= 5
    verdict = subject.judge([{"a": 10.0, "b": 20.0, "new": 50.0}])[0]
    assert verdict.is_anomaly
    assert max(verdict.features, key=lambda name: verdict.features[name]) == "new"


def test_a_wild_number_is_an_anomaly_and_breaks_nothing() -> None:
    subject = detector()
    judged(subject, [{"a": 10**400, "b": -1e300}, *level(10.0, 400)])
    assert subject.judge([{"a": 1e300, "b": 10**5000}])[0].is_anomaly
    verdict = subject.judge([{"a": 10.0, "b": 20.0}])[0]
    assert not verdict.is_anomaly
    json.dumps({**verdict.features, "score": verdict.score}, allow_nan=False)


def test_many_features_for_few_records_alert_as_rarely() -> None:
    random = np.random.default_rng(9)
    names = [f"f{number}" for number in range(60)]
    rows = random.normal(size=(500, 60)) + random.normal(size=(500, 1))
    verdicts = judged(detector(), [dict(zip(names, row, strict=True)) for row in rows.tolist()])
    assert sum(verdict.is_anomaly for verdict in verdicts) <= 5


def test_threads_share_a_detector_and_every_record_counts_once() -> None:
    subject = detector()
    seen: list[int] = []

    def feed(seed: int) -> None:
        for record in level(10.0, 200, seed=seed):
            seen.extend(verdict.seen for verdict in subject.judge([record]))

    threads = [threading.Thread(target=feed, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, 801))


NUMBERS = st.one_of(st.none(), st.integers(), st.floats(), st.just(0), st.booleans())


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), NUMBERS, max_size=4), min_size=1, max_size=8)
)
def test_any_numbers_give_finite_scores(records: Records) -> None:
    subject = detector(relearn=50)
    verdicts = subject.judge(records * (400 // len(records) + 1))
    numbers = [number for verdict in verdicts for number in (verdict.score, verdict.threshold)]
    assert np.isfinite(numbers).all()
    assert min(numbers) >= 0
