"""The sweeper: which products it repairs, which stay pending, and which failures it survives."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from product_consumer.database.connection import Database
from product_consumer.errors import ProductConsumerError, RejectMessage, StoreUnavailable
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.pending_checks import PendingChecks
from product_consumer.ledger.rows import ProductChange
from product_consumer.models import Product, ProductRow
from product_consumer.stores.memory import InMemoryStore
from product_consumer.sync import sweeper as sweeper_module
from product_consumer.sync.sweeper import Sweeper, SweepResult
from tests.support import factories


class Store(InMemoryStore):
    """A store that keeps the last write, even an older row; a test sets its failures."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.error: Exception | None = None
        self.refused: set[str] = set()
        self.written: list[str] = []

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        self.written += [row.id for row in rows]
        self._rows |= {row.id: row for row in rows if row.id not in self.refused}
        return {row.id: RejectMessage("no") for row in rows if row.id in self.refused}

    def read_revisions(self, product_ids: Sequence[str]) -> dict[str, int]:
        if self.error is not None:
            raise self.error
        return super().read_revisions(product_ids)

    def lose(self, product_id: str) -> None:
        del self._rows[product_id]


class Rig:
    def __init__(self, directory: Path) -> None:
        url = f"sqlite:///{directory / 'products.db'}"
        self.database = Database(url, timeout_seconds=5, connections=4)
        self.ledger = Ledger(self.database, repair_horizon_seconds=300)
        self.ledger.setup()
        self.ledger.claim_model("stand-in", 768)
        self.checks = PendingChecks(self.database, repair_horizon_seconds=300)
        self.vectors, self.keywords = Store("milvus"), Store("keywords")
        self.now = datetime.now(UTC) + timedelta(minutes=6)

    def sweeper(self, horizon_seconds: float = 300) -> Sweeper:
        stores = [self.vectors, self.keywords]
        return Sweeper(self.ledger, self.checks, stores, repair_horizon_seconds=horizon_seconds)

    def record(self, *products: Product) -> Mapping[str, ProductRow]:
        changes = [
            ProductChange(product, None if product.deleted else factories.embeddings())
            for product in products
        ]
        return self.ledger.record(changes).rows

    def store(self, *products: Product) -> Mapping[str, ProductRow]:
        """Record and write, as a worker does."""
        rows = self.record(*products)
        for store in (self.vectors, self.keywords):
            store.write(list(rows.values()))
            store.written.clear()
        return rows

    def sweep(self) -> SweepResult:
        """A sweep a little over a horizon after the one before."""
        result = self.sweeper().sweep_once(self.now)
        self.now += timedelta(minutes=6)
        return result


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.database.close()


def numbered(version: int, product_id: str = "abc123") -> Product:
    return factories.product(id=product_id, version=factories.version(version))


def test_a_product_that_every_store_has_is_not_checked_again(rig: Rig) -> None:
    rig.store(numbered(1))

    assert rig.sweep() == SweepResult(checked=1, repaired=0)
    assert rig.checks.count() == 0
    assert rig.sweep() == SweepResult(checked=0, repaired=0)
    assert rig.vectors.written == []


def test_a_product_that_no_store_was_given_is_written_and_checked_once_more(rig: Rig) -> None:
    rig.record(numbered(1))

    assert rig.sweep() == SweepResult(checked=1, repaired=1)
    assert rig.vectors.read_revisions(["abc123"]) == {"abc123": 1}
    assert rig.keywords.read_revisions(["abc123"]) == {"abc123": 1}
    assert rig.checks.count() == 1
    assert rig.sweep() == SweepResult(checked=1, repaired=0)
    assert rig.checks.count() == 0


def test_an_older_row_that_landed_late_is_replaced(rig: Rig) -> None:
    older = rig.store(numbered(1))
    rig.store(numbered(2))
    rig.vectors.write(list(older.values()))

    assert rig.sweep().repaired == 1
    assert rig.vectors.read_revisions(["abc123"]) == {"abc123": 2}


def test_only_the_store_that_differs_is_written(rig: Rig) -> None:
    rig.store(numbered(1), numbered(1, "other"))
    rig.vectors.lose("abc123")
    rig.sweep()

    assert rig.vectors.written == ["abc123"]
    assert rig.keywords.written == []


def test_a_deleted_product_that_a_store_still_has_is_removed(rig: Rig) -> None:
    rig.store(numbered(1))
    rig.record(factories.tombstone())

    assert rig.sweep().repaired == 1
    assert rig.vectors.read_revisions(["abc123"]) == {}
    assert rig.sweep() == SweepResult(checked=1, repaired=0)
    assert rig.checks.count() == 0


def test_a_row_that_changes_while_it_is_repaired_is_written_again(rig: Rig) -> None:
    rig.record(numbered(1))
    write = rig.vectors.write

    def overtaken(rows: Sequence[ProductRow]) -> Any:
        if rows[0].revision == 1:
            rig.record(numbered(2))
        return write(rows)

    rig.vectors.write = overtaken  # type: ignore[method-assign]
    rig.sweep()

    assert rig.vectors.read_revisions(["abc123"]) == {"abc123": 2}


def test_a_store_that_is_down_keeps_the_checks_and_the_other_is_repaired(rig: Rig) -> None:
    rig.record(numbered(1))
    rig.vectors.error = StoreUnavailable("milvus", "no answer")

    with pytest.raises(StoreUnavailable):
        rig.sweep()
    assert rig.keywords.read_revisions(["abc123"]) == {"abc123": 1}
    assert rig.checks.count() == 1


def test_a_row_that_a_store_refuses_stays_pending_and_its_neighbours_do_not(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.store(numbered(1, "good"))
    rig.record(numbered(1, "bad"))
    rig.vectors.refused = {"bad"}
    rig.sweep()
    rig.sweep()

    assert rig.checks.count() == 1
    assert "milvus keeps refusing 1 products, the first is bad: no" in caplog.messages


def test_a_full_batch_is_followed_by_the_next_at_once_and_reported_in_one_line(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "BATCH_SIZE", 2)
    rig.record(*(numbered(1, f"p{number}") for number in range(5)))
    make_due(rig, monkeypatch)
    run(rig.sweeper(), lambda: len(rig.keywords.written) == 5)

    lines = [line for line in caplog.messages if "repaired" in line]
    assert lines == ["The sweeper checked 5 products and repaired 5"]


def test_an_outage_is_reported_once_and_the_sweeper_goes_on(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper, waits = impatient(rig.sweeper(), monkeypatch)
    make_due(rig, monkeypatch, again_each_time=True)
    rig.record(numbered(1))
    rig.vectors.error = StoreUnavailable("milvus", "no answer")
    run(sweeper, lambda: len(waits) >= 3)

    lines = [line for line in caplog.messages if "has to wait" in line]
    assert lines == ["The sweeper has to wait: milvus is unavailable: no answer"]


def test_a_bug_is_logged_and_the_sweeper_goes_on(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper, waits = impatient(rig.sweeper(), monkeypatch)
    make_due(rig, monkeypatch, again_each_time=True)
    rig.record(numbered(1))
    rig.vectors.error = ZeroDivisionError()
    run(sweeper, lambda: len(waits) >= 1)
    rig.vectors.error = None
    run(sweeper, lambda: bool(rig.vectors.written))

    assert "The sweeper failed and goes on" in caplog.messages


def test_the_thread_ends_with_the_stop(rig: Rig) -> None:
    stopping = threading.Event()
    with rig.sweeper().running(stopping):
        [sweeping] = [thread for thread in threading.enumerate() if thread.name == "sweeper"]
        assert sweeping.daemon
        stopping.set()

    assert not sweeping.is_alive()


def test_a_sweep_touches_its_stage_before_every_call_to_a_store(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_due(rig, monkeypatch)
    rig.record(numbered(1))
    calls: list[str] = []

    def read_nothing(_ids: Sequence[str]) -> dict[str, int]:
        calls.append("read")
        return {}

    for store in (rig.vectors, rig.keywords):
        monkeypatch.setattr(store, "read_revisions", read_nothing)
    sweeper, stopping = rig.sweeper(), threading.Event()
    with sweeper.running(stopping, lambda: calls.append("touch")):
        for _ in range(400):
            if calls.count("read") == 2 and rig.keywords.written:
                break
            stopping.wait(0.02)
        stopping.set()

    reads = [index for index, call in enumerate(calls) if call == "read"]
    assert len(reads) == 2
    assert calls[0] == "touch"
    assert all(calls[index - 1] == "touch" for index in reads)


def make_due(rig: Rig, monkeypatch: pytest.MonkeyPatch, *, again_each_time: bool = False) -> None:
    """Set the sweeper's clock beyond the horizon; optionally a horizon further at each claim."""
    claim = rig.checks.claim

    def due(now: datetime, limit: int) -> Any:
        if again_each_time:
            rig.now += timedelta(minutes=6)
        return claim(rig.now, limit)

    monkeypatch.setattr(rig.checks, "claim", due)


def impatient(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> tuple[Sweeper, list[threading.Event]]:
    """Count the pauses after failures instead of waiting for them."""
    waits: list[threading.Event] = []

    def wait(stopping: threading.Event) -> bool:
        waits.append(stopping)
        return stopping.wait(0.01)

    monkeypatch.setattr(sweeper._backoff, "wait", wait)
    return sweeper, waits


def run(sweeper: Sweeper, until: Callable[[], bool]) -> None:
    """Run the sweeper's loop until the condition holds."""
    stopping, waited = threading.Event(), threading.Event()
    with sweeper.running(stopping):
        for _ in range(400):
            if until():
                break
            waited.wait(0.02)
        stopping.set()
    assert until(), "the sweeper did not get there in time"
