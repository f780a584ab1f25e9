import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from product_consumer.outcomes import Outcome, Rejected, Released, Stored
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.pipeline.hold import Hold
from product_consumer.streams.alerts.alert import Alert
from product_consumer.streams.anomaly.stage import AnomalyStage
from product_consumer.streams.anomaly.verdict import Verdict
from product_consumer.streams.records import Record
from tests.support.stages import RememberingServer, StageRig, stream_message


class Judge:
    """Calls records with ``wild`` anomalies; remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[Record] = []

    def judge(self, records: Sequence[Record]) -> list[Verdict]:
        self.given += records
        return [
            Verdict(9.12345, 4.0, "wild" in record, False, place, {"a": 9.1})
            for place, record in enumerate(records, 1)
        ]


class Sink:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def start(self) -> None:
        pass

    def put(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def close(self) -> None:
        pass


class Rig:
    """The stage in its pipeline, with alerts to a place (``sink``) or to a queue."""

    def __init__(self, directory: Path, *, to_queue: bool = False) -> None:
        self.judge, self.sink, self.alert_server = Judge(), Sink(), RememberingServer()
        self.context = new_context(threading.Event(), Hold(0.2))
        queue = self.alert_server.outlet("alerts") if to_queue else None
        stage = AnomalyStage(
            self.judge, self.context, sink=None if to_queue else self.sink, queue=queue
        )
        self.rig = StageRig(stage, directory, context=self.context)

    def process(self, *bodies: str | bytes) -> list[Outcome]:
        return self.rig.process(
            *(
                stream_message(body, correlation_id=f"c-{place}", message_id=f"m-{place}")
                for place, body in enumerate(bodies, 1)
            )
        )

    def close(self) -> None:
        self.rig.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with closing(Rig(tmp_path)) as opened:
        yield opened


@pytest.fixture
def queue_rig(tmp_path: Path) -> Iterator[Rig]:
    with closing(Rig(tmp_path, to_queue=True)) as opened:
        yield opened


def test_a_result_has_score_threshold_features_and_the_record(rig: Rig) -> None:
    assert rig.process('{"a": 1.5, "text": "x", "missing": NaN}') == [Stored("c-1")]
    assert rig.rig.server.bodies("out") == [
        {
            "kind": "anomaly",
            "correlation_id": "c-1",
            "score": 9.1235,
            "threshold": 4.0,
            "is_anomaly": False,
            "warming_up": False,
            "seen": 1,
            "features": {"a": 9.1},
            "record": {"a": 1.5, "text": "x", "missing": None},
        }
    ]


def test_only_anomalies_are_told(rig: Rig) -> None:
    rig.process('{"a": 1}', '{"wild": 1}')
    (alert,) = rig.sink.alerts
    assert (alert.correlation_id, alert.score, alert.features) == ("c-2", 9.12345, {"a": 9.1})
    assert json.loads(alert.body) == rig.rig.server.bodies("out")[1]
    assert 'product_message_flags_total{flag="anomaly"} 1.0' in exposition(rig.context)


def test_nothing_is_told_of_a_record_whose_result_was_not_sent(rig: Rig) -> None:
    rig.rig.server.is_down = True
    assert isinstance(rig.process('{"wild": 1}')[0], Released)
    assert rig.sink.alerts == []


@pytest.mark.parametrize(
    "body",
    [
        *(
            "",
            "no json",
            "[1]",
            "1",
            '{"a": {"b": 1}}',
            '{"a": 1e400}',
            b"\xff",
            '{"a": 1, "a": 2}',
        ),
        *(json.dumps({str(number): number for number in range(10_000)}), "[" * 100_000),
    ],
    ids=range(10),
)
def test_what_is_no_record_is_rejected_and_spares_its_neighbours(
    rig: Rig, body: str | bytes
) -> None:
    first, second = rig.process(body, '{"a": 1}')
    assert isinstance(first, Rejected)
    assert second == Stored("c-2")
    assert rig.judge.given == [{"a": 1}]


def test_an_alert_in_a_queue_is_confirmed_and_has_the_same_id_at_every_delivery(
    queue_rig: Rig,
) -> None:
    for _ in range(2):
        assert queue_rig.process('{"wild": 1}') == [Stored("c-1")]
    first, second = queue_rig.alert_server.queues["alerts"]
    assert first.envelope.message_id == second.envelope.message_id
    assert first.envelope.message_id != queue_rig.rig.server.queues["out"][0].envelope.message_id
    assert json.loads(first.body)["is_anomaly"]
    assert 'product_alerts_total{result="sent"} 2.0' in exposition(queue_rig.context)


def test_a_record_waits_while_the_queue_of_alerts_is_down(queue_rig: Rig) -> None:
    queue_rig.alert_server.is_down = True
    assert isinstance(queue_rig.process('{"wild": 1}')[0], Released)
    assert queue_rig.rig.server.queues["out"] == []
    queue_rig.alert_server.is_down = False
    assert queue_rig.rig.pipeline.wait_until_ready()
    assert queue_rig.process('{"wild": 1}') == [Stored("c-1")]


def test_a_refused_alert_rejects_its_record(queue_rig: Rig) -> None:
    queue_rig.process('{"wild": 1}')
    (alert,) = queue_rig.alert_server.queues["alerts"]
    queue_rig.alert_server.refusals[str(alert.body)] = "TooLarge"
    assert isinstance(queue_rig.process('{"wild": 1}')[0], Rejected)


def exposition(context: ProcessContext) -> str:
    return context.metrics.exposition("text/plain")[0].decode()
