"""A message that killed its process is worked on alone, and at last rejected."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from product_consumer.database.connection import Database
from product_consumer.errors import FatalError, LedgerUnavailable, ModelBroken
from product_consumer.ledger.crash_guard import CrashGuard
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.tables import suspects
from product_consumer.outcomes import Rejected
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.context import new_context
from product_consumer.products.item import ProductItem
from product_consumer.products.shared_stores import share
from tests.support import factories


class Rig:
    """A guard over a real ledger, and steps that remember their items."""

    def __init__(self, directory: Path) -> None:
        database = Database(f"sqlite:///{directory / 'l.db'}", timeout_seconds=5, connections=2)
        self.ledger = Ledger(database, repair_horizon_seconds=300)
        self.ledger.setup()
        self.context = new_context()
        self.guard = self.next_guard()
        self.calls: list[tuple[list[str], bool]] = []

    def next_guard(self) -> CrashGuard:
        """The guard of another process; those before it have ended."""
        with self.ledger.database.writing() as connection:
            connection.execute(update(suspects).values(process="on a machine that is gone"))
        return CrashGuard(share(self.ledger, [], self.context).ledger)

    def in_progress(self) -> list[str]:
        with self.ledger.database.reading() as connection:
            return sorted(connection.execute(select(suspects.c.message_id)).scalars())

    def batch(self, *ids: str) -> Batch[ProductItem]:
        items = [ProductItem(factories.message("{}", message_id=id_)) for id_ in ids]
        return Batch(items, self.context, max_attempts=3)

    def step(
        self, _batch: Batch[ProductItem], items: list[ProductItem], *, alone: bool = False
    ) -> list[ProductItem]:
        self.calls.append(([item.message.message_id for item in items], alone))
        return items

    def crash(
        self, _batch: Batch[ProductItem], items: list[ProductItem], **_: object
    ) -> list[ProductItem]:
        if items:
            raise FatalError("the device is lost")
        return []

    def run(self, *ids: str) -> Batch[ProductItem]:
        batch = self.batch(*ids)
        self.guard.run(batch, batch.items, self.step)
        return batch

    def die_with(self, *ids: str) -> None:
        batch = self.batch(*ids)
        with pytest.raises(FatalError):
            self.guard.run(batch, batch.items, self.crash)
        self.guard = self.next_guard()


def _raise_unavailable(_ids: object) -> None:
    raise LedgerUnavailable("ledger", "down")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.ledger.close()


def test_a_batch_without_suspects_is_worked_on_together(rig: Rig) -> None:
    rig.run("a", "b")

    assert rig.calls == [(["a", "b"], False)]


def test_finished_messages_are_no_longer_in_progress(rig: Rig) -> None:
    rig.run("a", "b")

    assert rig.in_progress() == []


def test_an_error_that_the_process_survives_makes_nobody_a_suspect(rig: Rig) -> None:
    def fail(*_: object, **__: object) -> list[ProductItem]:
        raise ZeroDivisionError

    batch = rig.batch("a")
    with pytest.raises(ZeroDivisionError):
        rig.guard.run(batch, batch.items, fail)

    assert rig.in_progress() == []


def test_a_ledger_that_is_down_in_the_end_makes_nobody_a_suspect(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(LedgerUnavailable):
        patch.setattr(rig.guard._table, "finish", _raise_unavailable)
        rig.run("a", "b")
    assert rig.in_progress() == ["a", "b"]

    # Delivered again, to this process, after the outage.
    rig.run("b", "c")

    assert rig.calls[1:] == [(["b", "c"], False)]
    assert rig.in_progress() == []


def test_what_the_ledger_could_not_be_told_it_is_told_with_the_next_batch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(LedgerUnavailable):
        patch.setattr(rig.guard._table, "finish", _raise_unavailable)
        rig.run("a")

    rig.run()

    assert rig.in_progress() == []


def test_a_model_that_is_broken_for_everything_makes_nobody_a_suspect(rig: Rig) -> None:
    def fail(*_: object, **__: object) -> list[ProductItem]:
        raise ModelBroken("nothing but NaN")

    batch = rig.batch("a", "b")
    with pytest.raises(ModelBroken):
        rig.guard.run(batch, batch.items, fail)

    assert rig.in_progress() == []


def test_messages_that_a_process_died_with_are_worked_on_alone(rig: Rig) -> None:
    rig.die_with("a", "b")
    rig.run("a", "b", "c")

    assert rig.calls == [(["c"], False), (["a"], True), (["b"], True)]


def test_two_crashes_alone_reject_a_message_and_one_does_not(rig: Rig) -> None:
    rig.die_with("a")
    for _ in range(2):
        rig.die_with("a")
    batch = rig.run("a", "b")

    assert isinstance(batch.items[0].outcome, Rejected)
    assert batch.items[0].outcome.reason == "crash_suspect"
    assert batch.items[1].outcome is None


def test_a_crash_within_a_batch_rejects_nobody(rig: Rig) -> None:
    rig.die_with("a", "b")
    batch = rig.run("a", "b")

    assert batch.undecided(batch.items) == batch.items
