import threading
from contextlib import closing
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from product_consumer.streams.anomaly.opening import KeptDetector
from product_consumer.streams.anomaly.options import DEFAULT_DETECTOR, DetectorName, DetectorOptions
from product_consumer.streams.anomaly.planted import Plan, PlantedRecord, planted_records
from product_consumer.streams.anomaly.state import decode, encode
from product_consumer.streams.anomaly.verdict import Verdict
from tests.support.anomalies import tally_of

RECORDS = list(planted_records(Plan(seed=20, records=2400)))
DISTRIBUTION = DetectorOptions(DetectorName.DISTRIBUTION)


def kept(directory: Path, options: DetectorOptions = DEFAULT_DETECTOR) -> "closing[KeptDetector]":
    detector = KeptDetector(directory, "q", options)
    detector.open()
    return closing(detector)


def learn(directory: Path, records: list[PlantedRecord]) -> Verdict:
    """Learn in a process of its own; return the last verdict."""
    with kept(directory) as detector:
        return detector.judge([record.values for record in records])[-1]


def test_a_detector_finds_as_much_over_two_restarts(tmp_path: Path) -> None:
    found, false, planted = 0, 0, 0
    for part in (RECORDS[:200], RECORDS[200:1300], RECORDS[1300:]):
        with kept(tmp_path) as detector:
            tally = tally_of(detector.judge, part)
        found, false = found + tally.found.total(), false + tally.false
        planted += tally.planted.total()
    assert planted > 20
    assert found / planted >= 0.9
    assert found / (found + false) >= 0.9


def test_the_count_and_the_warm_up_go_on_over_a_restart(tmp_path: Path) -> None:
    assert learn(tmp_path, RECORDS[:130]).warming_up
    verdict = learn(tmp_path, RECORDS[130:301])
    assert (verdict.seen, verdict.warming_up) == (301, False)


def test_a_crash_soon_after_the_warm_up_does_not_cost_it(tmp_path: Path) -> None:
    crashed = KeptDetector(tmp_path, "q")
    crashed.open()
    crashed.judge([record.values for record in RECORDS[:299]])
    verdicts = crashed.judge([record.values for record in RECORDS[299:320]])
    assert not verdicts[-1].warming_up
    path = tmp_path / "anomaly-q.state"
    deadline = monotonic() + 10.0
    while not path.exists():
        assert monotonic() < deadline
        threading.Event().wait(0.01)
    assert not decode(path.read_bytes()).warming_up
    crashed.close()


def test_a_restart_changes_no_score(tmp_path: Path) -> None:
    learn(tmp_path, RECORDS[:1010])
    with kept(tmp_path / "other") as whole:
        whole.judge([record.values for record in RECORDS[:1010]])
        with kept(tmp_path) as restarted:
            expected = whole.judge([RECORDS[1010].values])[0]
            verdict = restarted.judge([RECORDS[1010].values])[0]
    assert verdict.seen == expected.seen
    assert verdict.score == pytest.approx(expected.score)
    assert verdict.threshold == pytest.approx(expected.threshold)


@pytest.mark.parametrize("options", [DISTRIBUTION, DetectorOptions(chosen=("current", "pressure"))])
def test_another_detector_and_other_features_begin_anew(
    tmp_path: Path, options: DetectorOptions, caplog: pytest.LogCaptureFixture
) -> None:
    learn(tmp_path, RECORDS[:400])
    with kept(tmp_path, options) as detector:
        verdict = detector.judge([RECORDS[0].values])[0]
    assert (verdict.seen, verdict.warming_up) == (1, True)
    assert "anomaly-q.state is not used: " in caplog.text
    assert (tmp_path / "anomaly-q.state.unusable").exists()


@pytest.mark.parametrize("name", ["scores", "warm_up", "waiting", "scorer_means", "scorer_active"])
def test_a_state_whose_parts_do_not_fit_begins_anew(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    learn(tmp_path, RECORDS[:400])
    path = tmp_path / "anomaly-q.state"
    state = decode(path.read_bytes())
    state.arrays[name] = np.zeros((1, 1, 1))
    path.write_bytes(encode(state))
    assert learn(tmp_path, RECORDS[:1]).seen == 1
    assert "its parts do not fit each other" in caplog.text


def test_two_processes_learn_from_one_queue_side_by_side(tmp_path: Path) -> None:
    with kept(tmp_path) as first, kept(tmp_path) as second:
        first.judge([record.values for record in RECORDS[:400]])
        second.judge([record.values for record in RECORDS[400:700]])
    assert decode((tmp_path / "anomaly-q.state").read_bytes()).seen == 400
    assert decode((tmp_path / "anomaly-q.state.2").read_bytes()).seen == 300


def test_a_directory_that_cannot_be_written_is_told_and_records_are_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with kept(tmp_path / "file") as detector:
        assert detector.judge([{"a": 1.0}])[0].seen == 1
    assert "What the detector learns is not kept" in caplog.text
