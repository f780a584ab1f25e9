"""The sweeper: what it repairs, what it leaves marked, and what it survives."""

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
    """Shows what was written last; fails and refuses as a test tells it to."""

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


class Bench:
    def __init__(self, directory: Path) -> None:
        url = f"sqlite:///{directory / 'products.db'}"
        self.database = Database(url, timeout_seconds=5, connections=4)
        self.ledger = Ledger(self.database, repair_horizon_seconds=300)
        self.ledger.setup()
        self.ledger.claim_model("stand-in", 768)
        self.marks = PendingChecks(self.database, repair_horizon_seconds=300)
        self.vectors, self.keywords = Store("milvus"), Store("keywords")
        self.now = datetime.now(UTC) + timedelta(minutes=6)

    def sweeper(self, horizon_seconds: float = 300) -> Sweeper:
        stores = [self.vectors, self.keywords]
        return Sweeper(self.ledger, self.marks, stores, repair_horizon_seconds=horizon_seconds)

    def record(self, *products: Product) -> Mapping[str, ProductRow]:
        changes = [
            ProductChange(product, None if product.deleted else factories.embeddings())
            for product in products
        ]
        return self.ledger.record(changes).rows

    def store(self, *products: Product) -> Mapping[str, ProductRow]:
        """What a worker does."""
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
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def numbered(version: int, product_id: str = "abc123") -> Product:
    return factories.product(id=product_id, version=factories.version(version))


def test_what_every_store_shows_is_not_checked_again(bench: Bench) -> None:
    bench.store(numbered(1))

    assert bench.sweep() == SweepResult(checked=1, repaired=0)
    assert bench.marks.count() == 0
    assert bench.sweep() == SweepResult(checked=0, repaired=0)
    assert bench.vectors.written == []


def test_what_no_store_was_given_is_written_and_checked_once_more(bench: Bench) -> None:
    bench.record(numbered(1))

    assert bench.sweep() == SweepResult(checked=1, repaired=1)
    assert bench.vectors.read_revisions(["abc123"]) == {"abc123": 1}
    assert bench.keywords.read_revisions(["abc123"]) == {"abc123": 1}
    assert bench.marks.count() == 1
    assert bench.sweep() == SweepResult(checked=1, repaired=0)
    assert bench.marks.count() == 0


def test_an_older_row_that_landed_late_is_replaced(bench: Bench) -> None:
    older = bench.store(numbered(1))
    bench.store(numbered(2))
    bench.vectors.write(list(older.values()))

    assert bench.sweep().repaired == 1
    assert bench.vectors.read_revisions(["abc123"]) == {"abc123": 2}


def test_only_the_store_that_differs_is_written(bench: Bench) -> None:
    bench.store(numbered(1), numbered(1, "other"))
    bench.vectors.lose("abc123")
    bench.sweep()

    assert bench.vectors.written == ["abc123"]
    assert bench.keywords.written == []


def test_a_deleted_product_that_is_still_shown_is_removed(bench: Bench) -> None:
    bench.store(numbered(1))
    bench.record(factories.tombstone())

    assert bench.sweep().repaired == 1
    assert bench.vectors.read_revisions(["abc123"]) == {}
    assert bench.sweep() == SweepResult(checked=1, repaired=0)
    assert bench.marks.count() == 0


def test_a_row_that_changes_while_it_is_repaired_is_written_again(bench: Bench) -> None:
    bench.record(numbered(1))
    write = bench.vectors.write

    def overtaken(rows: Sequence[ProductRow]) -> Any:
        if rows[0].revision == 1:
            bench.record(numbered(2))
        return write(rows)

    bench.vectors.write = overtaken  # type: ignore[method-assign]
    bench.sweep()

    assert bench.vectors.read_revisions(["abc123"]) == {"abc123": 2}


def test_a_store_that_is_down_keeps_the_marks_and_the_other_is_repaired(bench: Bench) -> None:
    bench.record(numbered(1))
    bench.vectors.error = StoreUnavailable("milvus", "no answer")

    with pytest.raises(StoreUnavailable):
        bench.sweep()
    assert bench.keywords.read_revisions(["abc123"]) == {"abc123": 1}
    assert bench.marks.count() == 1


def test_a_row_that_a_store_refuses_stays_marked_and_its_neighbours_do_not(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.store(numbered(1, "good"))
    bench.record(numbered(1, "bad"))
    bench.vectors.refused = {"bad"}
    bench.sweep()
    bench.sweep()

    assert bench.marks.count() == 1
    assert "milvus keeps refusing 1 products, the first is bad: no" in caplog.messages


def test_a_full_batch_is_followed_by_the_next_at_once_and_reported_in_one_line(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "BATCH_SIZE", 2)
    bench.record(*(numbered(1, f"p{number}") for number in range(5)))
    make_due(bench, monkeypatch)
    run(bench.sweeper(), lambda: len(bench.keywords.written) == 5)

    lines = [line for line in caplog.messages if "repaired" in line]
    assert lines == ["The sweeper checked 5 products and repaired 5"]


def test_an_outage_is_reported_once_and_the_sweeper_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper, waits = impatient(bench.sweeper(), monkeypatch)
    make_due(bench, monkeypatch, again_each_time=True)
    bench.record(numbered(1))
    bench.vectors.error = StoreUnavailable("milvus", "no answer")
    run(sweeper, lambda: len(waits) >= 3)

    lines = [line for line in caplog.messages if "has to wait" in line]
    assert lines == ["The sweeper has to wait: milvus is unavailable: no answer"]


def test_a_bug_is_logged_and_the_sweeper_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper, waits = impatient(bench.sweeper(), monkeypatch)
    make_due(bench, monkeypatch, again_each_time=True)
    bench.record(numbered(1))
    bench.vectors.error = ZeroDivisionError()
    run(sweeper, lambda: len(waits) >= 1)
    bench.vectors.error = None
    run(sweeper, lambda: bool(bench.vectors.written))

    assert "The sweeper failed and goes on" in caplog.messages


def test_the_thread_ends_with_the_stop(bench: Bench) -> None:
    stopping = threading.Event()
    with bench.sweeper().running(stopping):
        [thread] = [one for one in threading.enumerate() if one.name == "sweeper"]
        assert thread.daemon
        stopping.set()

    assert not thread.is_alive()


def test_a_sweep_shows_a_sign_of_life_before_every_call_to_a_part(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_due(bench, monkeypatch)
    bench.record(numbered(1))
    beats: list[str] = []

    def read_nothing(_ids: Sequence[str]) -> dict[str, int]:
        beats.append("read")
        return {}

    for store in (bench.vectors, bench.keywords):
        monkeypatch.setattr(store, "read_revisions", read_nothing)
    sweeper, stopping = bench.sweeper(), threading.Event()
    with sweeper.running(stopping, lambda: beats.append("beat")):
        for _ in range(400):
            if beats.count("read") == 2 and bench.keywords.written:
                break
            stopping.wait(0.02)
        stopping.set()

    reads = [index for index, what in enumerate(beats) if what == "read"]
    assert len(reads) == 2
    assert beats[0] == "beat"
    assert all(beats[index - 1] == "beat" for index in reads)


def make_due(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, again_each_time: bool = False
) -> None:
    """The sweeper's own clock is beyond the horizon; each claim further if asked for."""
    claim = bench.marks.claim

    def due(now: datetime, limit: int) -> Any:
        if again_each_time:
            bench.now += timedelta(minutes=6)
        return claim(bench.now, limit)

    monkeypatch.setattr(bench.marks, "claim", due)


def impatient(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> tuple[Sweeper, list[threading.Event]]:
    """The pauses after failures are only counted."""
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
