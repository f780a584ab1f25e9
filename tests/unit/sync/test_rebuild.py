"""A store is filled from the ledger: completely, beside workers, and on after a stop."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from product_consumer.cli.app import app
from product_consumer.database.connection import Database
from product_consumer.errors import ConfigurationError, ProductConsumerError, RejectMessage
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.pending_checks import PendingChecks
from product_consumer.ledger.rows import ProductChange
from product_consumer.ledger.scan import LedgerScan
from product_consumer.models import Product, ProductRow, StoreIdentity
from product_consumer.stores.memory import InMemoryStore
from product_consumer.stores.sqlite_fts import SqliteSearchStore
from product_consumer.sync.rebuild import Rebuild, RebuildResult
from product_consumer.sync.writer import call_once
from tests.support import factories


class Store(InMemoryStore):
    """Keeps the last write of a row. ``before_write`` runs first, ``refused`` rows fail."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.refused: set[str] = set()
        self.before_write: Callable[[], object] = lambda: None

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        self.batches.append([row.id for row in rows])
        act, self.before_write = self.before_write, lambda: None
        act()
        self._rows |= {row.id: row for row in rows if row.id not in self.refused}
        return {row.id: RejectMessage("no") for row in rows if row.id in self.refused}

    @property
    def revisions(self) -> dict[str, int]:
        return {key: row.revision for key, row in self._rows.items() if not row.deleted}

    def lose_everything(self) -> None:
        self._rows.clear()
        self.batches.clear()


class Rig:
    def __init__(self, directory: Path) -> None:
        self.url = f"sqlite:///{directory / 'products.db'}"
        self.database = Database(self.url, timeout_seconds=5, connections=4)
        self.ledger = Ledger(self.database, repair_horizon_seconds=300)
        self.ledger.setup()
        self.ledger.claim_model("stand-in", 768)
        self.checks = PendingChecks(self.database, repair_horizon_seconds=300)
        self.scan = LedgerScan(self.database)
        self.store = Store()

    def record(self, *products: Product) -> None:
        self.ledger.record(
            [
                ProductChange(product, None if product.deleted else factories.embeddings())
                for product in products
            ]
        )

    def rebuild(
        self,
        on_progress: Callable[[RebuildResult], Any] = lambda _result: None,
        *,
        stopping: threading.Event | None = None,
        from_start: bool = False,
    ) -> RebuildResult:
        rebuild = Rebuild(self.ledger, self.checks, self.scan, self.store, call_once, page_size=2)
        return rebuild.run(stopping or threading.Event(), on_progress, from_start=from_start)

    def stop_after(self, pages: int) -> None:
        """Run a rebuild that is stopped after so many pages."""
        stopping, done = threading.Event(), []

        def count(_result: RebuildResult) -> None:
            done.append(1)
            if len(done) == pages:
                stopping.set()

        assert not self.rebuild(count, stopping=stopping).is_complete
        self.store.batches.clear()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.database.close()


def numbered(name: str, version: int = 1) -> Product:
    return factories.product(id=name, version=factories.version(version))


def test_an_empty_store_gets_every_product_with_its_embeddings(rig: Rig) -> None:
    rig.record(*(numbered(name) for name in "abcde"))
    result = rig.rebuild()

    assert rig.store.revisions == dict.fromkeys("abcde", 1)
    assert all(row.embeddings is not None for row in rig.store._rows.values())
    assert (result.total, result.checked, result.written) == (5, 5, 5)
    assert result.is_complete


def test_progress_is_reported_after_every_page(rig: Rig) -> None:
    rig.record(*(numbered(name) for name in "abcde"))
    checked: list[int] = []
    rig.rebuild(lambda result: checked.append(result.checked))

    assert checked == [2, 4, 5]


def test_an_incomplete_store_gets_missing_products_and_loses_deleted_ones(rig: Rig) -> None:
    rig.record(numbered("a"), numbered("b"), numbered("c"))
    rig.rebuild()
    rig.record(numbered("a", 2), factories.tombstone("b"))
    del rig.store._rows["c"]
    rig.rebuild()

    assert rig.store.revisions == {"a": 2, "c": 1}


def test_a_product_that_changes_while_it_is_written_is_written_again(rig: Rig) -> None:
    rig.record(numbered("a"))
    rig.store.before_write = lambda: rig.record(numbered("a", 2))
    rig.rebuild()

    assert rig.store.revisions == {"a": 2}


def test_a_product_that_a_rebuild_writes_is_due_for_the_sweeper(rig: Rig) -> None:
    rig.record(numbered("a"))
    rig.checks.clear(rig.checks.claim(datetime.now(UTC) + timedelta(minutes=6), 10))
    assert rig.checks.count() == 0
    pending: list[int] = []
    rig.store.before_write = lambda: pending.append(rig.checks.count())
    rig.rebuild()

    assert pending == [1]


def test_a_stopped_rebuild_goes_on_where_it_stopped(rig: Rig) -> None:
    rig.record(*(numbered(name) for name in "abcde"))
    rig.stop_after(pages=1)
    result = rig.rebuild()

    assert rig.store.batches == [["c", "d"], ["e"]]
    assert (result.checked, result.written, result.is_complete) == (5, 3, True)


def test_a_store_that_was_emptied_after_a_stop_is_filled_from_the_beginning(rig: Rig) -> None:
    rig.record(*(numbered(name) for name in "abcde"))
    rig.stop_after(pages=2)
    rig.store.lose_everything()
    rig.rebuild()

    assert rig.store.revisions == dict.fromkeys("abcde", 1)


def test_from_start_writes_everything_again(rig: Rig) -> None:
    rig.record(*(numbered(name) for name in "abcde"))
    rig.stop_after(pages=2)
    rig.rebuild(from_start=True)

    assert rig.store.batches == [["a", "b"], ["c", "d"], ["e"]]


def test_a_finished_rebuild_leaves_no_position(rig: Rig) -> None:
    rig.record(numbered("a"))
    rig.rebuild()
    rig.store.batches.clear()
    rig.rebuild()

    assert rig.store.batches == [["a"]]


def test_a_refused_product_is_reported_and_the_others_are_written(rig: Rig) -> None:
    rig.record(numbered("a"), numbered("b"))
    rig.store.refused = {"a"}
    result = rig.rebuild()

    assert rig.store.revisions == {"b": 1}
    assert result.failures == {"a": "no"}
    assert (result.written, result.failed) == (1, 1)


def test_a_store_that_keeps_a_later_revision_is_reported(rig: Rig) -> None:
    """The ledger has been put back to an earlier state since the store was filled."""

    class Stubborn(Store):
        def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
            return {}

        def read_revisions(self, product_ids: Sequence[str]) -> dict[str, int]:
            return dict.fromkeys(product_ids, 7)

    rig.store = Stubborn()
    rig.record(numbered("a"))
    result = rig.rebuild()

    assert result.failures == {"a": "the ledger has revision 1, the store has 7"}


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings that name the ledger of ``rig``, which is in ``tmp_path`` too."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["elasticsearch", "keywords"])
def test_the_command_fills_the_keyword_store_that_is_configured(
    rig: Rig, data_dir: Path, name: str
) -> None:
    rig.record(numbered("a"), numbered("b"))
    result = CliRunner().invoke(app, ["rebuild", name])

    assert result.exit_code == 0, result.output
    assert "sqlite_search: 2 products written, 0 were right already, 0 failed" in result.output
    store = SqliteSearchStore(data_dir / "search.db", timeout_seconds=5)
    assert store.read_revisions(["a", "b"]) == {"a": 1, "b": 1}
    store.close()


def test_the_command_refuses_a_ledger_that_no_worker_has_used(data_dir: Path) -> None:
    result = CliRunner().invoke(app, ["rebuild", "keywords"])

    assert isinstance(result.exception, ConfigurationError)
    assert "no worker has used it yet" in str(result.exception)


def test_the_command_refuses_another_ledgers_store(rig: Rig, data_dir: Path) -> None:
    store = SqliteSearchStore(data_dir / "search.db", timeout_seconds=5)
    store.setup(StoreIdentity("another", "stand-in", 768))
    store.close()
    result = CliRunner().invoke(app, ["rebuild", "keywords"])

    assert isinstance(result.exception, ConfigurationError)
    assert "belongs to ledger another" in str(result.exception)
