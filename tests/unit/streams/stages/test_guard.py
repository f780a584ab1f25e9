"""The crash guard of a stage: a picture that killed its process is worked on alone."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, update

from product_consumer.database.connection import Database
from product_consumer.errors import FatalError, LedgerUnavailable
from product_consumer.ledger.tables import suspects
from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.pipeline.hold import Hold
from product_consumer.streams.stages.base import Items, StageBatch
from product_consumer.streams.stages.guard import StageGuard
from product_consumer.streams.stages.item import StageItem
from tests.support.stages import stream_message


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'products.db'}"
    with closing(Database(url, timeout_seconds=5, connections=4)) as opened:
        yield opened


def guard(
    database: Database, stage: str = "features", context: ProcessContext | None = None
) -> StageGuard:
    made = StageGuard(database, context or new_context(), stage=stage, queue_name="in")
    made.setup()
    return made


def run(guard: StageGuard, messages: list[Message], *, fatal: bool = False) -> list[list[str]]:
    """Run a step; return which messages it was given together."""
    calls: list[list[str]] = []

    def step(_batch: StageBatch, items: Items, *, alone: bool = False) -> Items:
        if items:
            calls.append([item.message.message_id for item in items])
            if fatal:
                raise FatalError("the process dies here")
        return items

    with Batch(map(StageItem, messages), new_context(), max_attempts=3) as batch:
        guard.run(batch, batch.items, step)
    return calls


def leave_behind(database: Database) -> None:
    """Let the process that has messages in work be another one, which has ended."""
    with database.writing() as connection:
        connection.execute(update(suspects).values(process=None))


def in_work(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(select(suspects.c.message_id)).scalars())


A, B = (stream_message("x", message_id=name) for name in "ab")


def test_what_went_well_leaves_nothing(database: Database) -> None:
    assert run(guard(database), [A, B]) == [["a", "b"]]
    assert in_work(database) == []


def test_a_message_whose_process_died_is_worked_on_alone(database: Database) -> None:
    with pytest.raises(FatalError):
        run(guard(database), [A], fatal=True)
    leave_behind(database)

    assert run(guard(database), [A, B]) == [["b"], ["a"]]
    assert in_work(database) == []


def test_a_message_that_keeps_killing_its_process_is_rejected(database: Database) -> None:
    for _ in range(3):
        with pytest.raises(FatalError):
            run(guard(database), [A], fatal=True)
        leave_behind(database)

    with Batch([StageItem(A)], new_context(), max_attempts=3) as batch:
        guard(database).run(batch, batch.items, lambda _batch, items, alone=False: items)

    [outcome] = batch.outcomes()
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "crash_suspect"


def test_the_same_id_at_another_stage_is_another_message(database: Database) -> None:
    with pytest.raises(FatalError):
        run(guard(database), [A], fatal=True)
    leave_behind(database)

    assert run(guard(database, "classify"), [A, B]) == [["a", "b"]]


def test_an_id_of_any_text_can_be_noted(database: Database) -> None:
    odd = stream_message("x", message_id="\x00\ud800" + "x" * 5000)

    assert len(run(guard(database), [odd])) == 1


def test_a_process_that_ends_by_itself_leaves_no_suspects(database: Database) -> None:
    made = guard(database)
    with pytest.raises(FatalError):
        run(made, [A], fatal=True)

    made.leave()

    assert in_work(database) == []


def test_a_table_that_cannot_be_written_gives_the_messages_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = new_context(hold=Hold(0.1))
    made = guard(database, context=context)

    def fail(*_: object) -> None:
        raise LedgerUnavailable("ledger", "down")

    monkeypatch.setattr(database, "writing_in_steps", fail)

    with context.hold.messages():
        assert run(made, [A]) == []
