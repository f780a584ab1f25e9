"""The stage ``anomaly``: records -> how unusual each is, and alerts of those that are.

A crash between learning and acknowledging delivers records again. They are scored and learnt once
more, and their alerts may be told twice: in a queue, under the same message id.
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext
from product_consumer.streams.alerts.alert import Alert, AlertSink
from product_consumer.streams.anomaly.verdict import Verdict
from product_consumer.streams.records import Record, read_record
from product_consumer.streams.stages.base import Items, StageBatch
from product_consumer.streams.stages.item import StageItem
from product_consumer.streams.stages.outlets import Outlet, result_message
from product_consumer.streams.tracing import carried

KIND = "anomaly"
_ALERT = "anomaly alert"
_QUEUE = "queue of alerts"
"""The dependency that has the alerts."""
_DIGITS = 4


class Judge(Protocol):
    """What scores records; ``KeptDetector`` is one. Any thread may call it."""

    def judge(self, records: Sequence[Record]) -> list[Verdict]:
        """Return the verdict on each record, in order, and learn from them."""
        ...


class AnomalyStage:
    """Scores records. Alerts go to ``sink`` at once, or to ``queue``, each confirmed."""

    name = KIND

    def __init__(
        self,
        detector: Judge,
        context: ProcessContext,
        *,
        sink: AlertSink | None = None,
        queue: Outlet | None = None,
    ) -> None:
        self._detector = detector
        self._context = context
        self._sink = sink
        self._queue = queue
        self._breakers = Breakers({} if queue is None else {_QUEUE: queue.open}, context)

    def work(self, batch: StageBatch, items: Items) -> Items:
        """See ``Stage``."""
        with batch.stage("validate"):
            read = batch.each("read", items, _read)
        with batch.stage("score"):
            records = [item.content for item in read]
            scored = batch.accept("score", read, self._detector.judge(records), _finish)
        anomalies = [item for item in scored if item.content.is_anomaly]
        self._context.metrics.count_flags((KIND,) * len(anomalies))
        if self._queue is not None and anomalies:
            with batch.stage("publish"):
                self._tell(batch, anomalies, self._queue)
        return batch.undecided(scored)

    def finished(self, items: Items) -> None:
        """See ``Stage``. Tells the alerts that no queue has."""
        if self._sink is None:
            return
        for item in items:
            verdict = item.content
            if verdict.is_anomaly and item.result is not None:
                body = str(item.result.body)
                alert = Alert(
                    item.correlation_id, verdict.score, verdict.threshold, verdict.features, body
                )
                self._sink.put(alert)

    def wait_until_ready(self) -> bool:
        """See ``Stage``."""
        return self._breakers.wait_until_closed()

    def _tell(self, batch: StageBatch, items: Items, queue: Outlet) -> None:
        """Send alerts before their results: a result that is there has its alert."""
        messages = [
            result_message(_ALERT, item, item.result, carried(item.message))
            for item in items
            if item.result is not None
        ]
        refused = self._breakers.call(_QUEUE, "alert", partial(queue.send, messages))
        batch.fail("alert", items, refused)
        told = len(batch.undecided(items))
        self._context.metrics.count_alert("sent", told)


def _read(item: StageItem) -> None:
    item.kind = KIND
    item.content = read_record(item.message.body, item.message.envelope)


def _finish(item: StageItem, verdict: Verdict) -> None:
    record, item.content = item.content, verdict
    item.finish(
        KIND,
        score=round(verdict.score, _DIGITS),
        threshold=round(verdict.threshold, _DIGITS),
        is_anomaly=verdict.is_anomaly,
        warming_up=verdict.warming_up,
        seen=verdict.seen,
        features=verdict.features,
        record=record,
    )
