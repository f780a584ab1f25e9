"""A stage: results reach every place before their message is settled, and nobody waits for ever."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from product_consumer.errors import LedgerUnavailable, RejectMessage
from product_consumer.outcomes import Rejected, Released, Stored
from product_consumer.streams.stages.base import Items, StageBatch
from product_consumer.streams.stages.item import StageItem
from tests.support.stages import RememberingSender, StageRig, stream_message

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Shouting:
    """A stage that writes in capitals, and refuses what is empty."""

    name = "shout"

    def __init__(self) -> None:
        self.told: list[str] = []

    def work(self, batch: StageBatch, items: Items) -> Items:
        return batch.each("shout", items, self._shout)

    def finished(self, items: Items) -> None:
        self.told += [item.correlation_id for item in items]

    def wait_until_ready(self) -> bool:
        return True

    def _shout(self, item: StageItem) -> None:
        item.kind = "shout"
        if not item.message.body:
            raise RejectMessage("body_empty")
        item.finish("shout", "a-model", text=str(item.message.body).upper(), source=item.source)


@contextmanager
def shouting(directory: Path, **changes: Any) -> Iterator[StageRig]:
    rig = StageRig(Shouting(), directory, **changes)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[StageRig]:
    with shouting(tmp_path) as opened:
        yield opened


def test_a_result_reaches_the_next_queue_the_results_and_the_table(rig: StageRig) -> None:
    message = stream_message("hello", correlation_id="c-1", headers={"filename": "a.txt"})

    assert rig.process(message) == [Stored("c-1")]

    expected = {
        "kind": "shout",
        "correlation_id": "c-1",
        "model": "a-model",
        "text": "HELLO",
        "source": {"filename": "a.txt"},
    }
    assert rig.server.bodies("out") == rig.server.bodies("results") == [expected]
    [row] = rig.store.of("c-1")
    assert (row.stage, row.kind, row.status, row.model) == ("shout", "shout", "done", "a-model")
    assert row.value() == expected


def test_a_stage_without_results_leaves_rows_only_of_what_it_rejects(tmp_path: Path) -> None:
    with shouting(tmp_path, with_results=False) as rig:
        good = stream_message("hello", correlation_id="good")
        bad = stream_message("", correlation_id="bad")

        assert rig.process(good, bad) == [
            Stored("good"),
            Rejected("shout", "body_empty", "body_empty"),
        ]

        assert rig.store.of("good") == []
        [row] = rig.store.of("bad")
        assert (row.status, row.kind, row.reason) == ("rejected", "shout", "body_empty")
        assert row.value() is None


def test_the_correlation_id_is_the_property_else_the_message_id_else_new(rig: StageRig) -> None:
    rig.process(
        stream_message("a", correlation_id="c", message_id="m"),
        stream_message("b", message_id="m2"),
        stream_message("c"),
    )

    first, second, third = (sent.envelope.correlation_id for sent in rig.server.queues["out"])
    assert (first, second) == ("c", "m2")
    assert len(third) == 36


def test_a_repeated_message_gives_the_same_message_id_and_one_row(rig: StageRig) -> None:
    message = stream_message("hello", correlation_id="c-1", message_id="m-1")

    rig.process(message)
    rig.process(message)

    ids = {sent.envelope.message_id for sent in rig.server.queues["out"]}
    assert len(rig.server.queues["out"]) == 2
    assert len(ids) == 1
    assert "m-1" not in ids
    assert len(rig.store.of("c-1")) == 1


def test_the_client_is_answered_by_the_stage_with_results_alone(tmp_path: Path) -> None:
    message = stream_message("hello", correlation_id="c-1", reply_to="client")
    with shouting(tmp_path / "first", with_results=False) as first:
        first.process(message)
        assert first.server.queues["client"] == []
        [passed_on] = first.server.queues["out"]
        assert passed_on.envelope.reply_to == "client"
    with shouting(tmp_path / "last") as last:
        last.process(message)
        [answer] = last.server.queues["client"]
        assert json.loads(answer.body)["text"] == "HELLO"
        assert answer.envelope.correlation_id == "c-1"
        assert last.server.queues["out"][0].envelope.reply_to == ""


def test_the_row_is_there_before_the_client_is_answered(
    rig: StageRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    send = RememberingSender.send

    def look(self: RememberingSender, messages: Any, *, queue_name: str | None = None) -> Any:
        if queue_name == "client":
            rows.append(len(rig.store.of("c-1")))
        return send(self, messages, queue_name=queue_name)

    monkeypatch.setattr(RememberingSender, "send", look)
    rig.process(stream_message("hello", correlation_id="c-1", reply_to="client"))

    assert rows == [1]


def test_a_client_that_has_gone_is_counted_and_no_error(rig: StageRig) -> None:
    rig.server.missing.add("client")

    outcomes = rig.process(stream_message("hello", correlation_id="c-1", reply_to="client"))

    assert outcomes == [Stored("c-1")]
    assert "reply_unroutable" in rig.context.metrics.exposition("")[0].decode()
    assert len(rig.store.of("c-1")) == 1


def test_a_client_is_told_that_its_message_was_rejected(rig: StageRig) -> None:
    rig.process(stream_message("", correlation_id="c-1", reply_to="client"))

    assert rig.server.bodies("client") == [
        {
            "kind": "rejected",
            "correlation_id": "c-1",
            "stage": "shout",
            "reason": "body_empty",
            "source": {"filename": None},
        }
    ]
    assert rig.server.queues["results"] == []


def test_headers_for_tracing_are_carried_on_unchanged(rig: StageRig) -> None:
    headers = {"traceparent": TRACEPARENT, "tracestate": "a=1", "other": "dropped"}
    rig.process(stream_message("hello", headers=headers))

    [sent] = rig.server.queues["out"]
    assert sent.attributes == {"traceparent": TRACEPARENT, "tracestate": "a=1"}
    assert dict(sent.envelope.headers) == {"kind": "shout"}


def test_a_message_goes_back_while_the_next_queue_cannot_be_reached(rig: StageRig) -> None:
    rig.server.is_down = True

    [outcome] = rig.process(stream_message("hello", correlation_id="c-1"))

    assert isinstance(outcome, Released)
    assert rig.store.of("c-1") == []


def test_a_queue_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    with shouting(tmp_path, hold_seconds=10) as rig:
        rig.process(stream_message("one", correlation_id="c-1"))
        rig.server.missing.add("out")

        assert rig.process(stream_message("two", correlation_id="c-2")) == [Stored("c-2")]
        assert [body["text"] for body in rig.server.bodies("out")] == ["ONE", "TWO"]


def test_a_result_that_the_queue_refuses_is_rejected_and_spares_its_batch(rig: StageRig) -> None:
    refused = json.dumps(
        {
            "kind": "shout",
            "correlation_id": "big",
            "model": "a-model",
            "text": "BIG",
            "source": {"filename": None},
        }
    )
    rig.server.refusals[refused] = "TooLarge"

    big, small = rig.process(
        stream_message("big", correlation_id="big"), stream_message("small", correlation_id="small")
    )

    assert isinstance(big, Rejected)
    assert big.reason == "result_refused"
    assert small == Stored("small")
    assert rig.store.of("big")[0].status == "rejected"


def test_a_message_goes_back_while_the_queue_of_its_result_is_full(rig: StageRig) -> None:
    rig.process(stream_message("hello", correlation_id="c-1"))
    rig.server.refusals[str(rig.server.queues["out"][0].body)] = "Refused"

    [outcome] = rig.process(stream_message("hello", correlation_id="c-1"))

    assert isinstance(outcome, Released)


def test_a_rejected_message_goes_back_while_the_table_cannot_tell_of_it(
    rig: StageRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LedgerUnavailable("ledger", "down")

    monkeypatch.setattr(rig.store, "_grouped", refuse)

    [outcome] = rig.process(stream_message("", correlation_id="c-1"))

    assert isinstance(outcome, Released)


def test_a_message_that_was_delivered_again_is_left_to_its_next_delivery(rig: StageRig) -> None:
    message = stream_message("hello", correlation_id="c-1")

    [outcome] = rig.pipeline.process([message])

    assert outcome == Released("delivered again elsewhere")
    assert rig.server.queues["out"] == []


def test_the_stage_is_told_of_results_that_are_where_they_belong(tmp_path: Path) -> None:
    stage = Shouting()
    rig = StageRig(stage, tmp_path)
    try:
        rig.process(stream_message("a", correlation_id="a"), stream_message("", correlation_id="b"))
    finally:
        rig.close()

    assert stage.told == ["a"]
