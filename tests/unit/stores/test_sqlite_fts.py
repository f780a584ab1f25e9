"""What only the SQLite search does: its file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError, RejectMessage, StoreUnavailable
from product_consumer.models import StoreIdentity
from product_consumer.stores.sqlite_fts import SqliteSearchStore
from tests.support.factories import product_row

IDENTITY = StoreIdentity(ledger_id="ledger-1", model_id="model-1", dimension=16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteSearchStore]:
    with closing(SqliteSearchStore(path, timeout_seconds=0.5)) as opened:
        opened.setup(IDENTITY)
        yield opened


def refused(path: Path) -> ConfigurationError:
    with (
        pytest.raises(ConfigurationError) as error,
        closing(SqliteSearchStore(path, timeout_seconds=0.5)) as store,
    ):
        store.setup(IDENTITY)
    return error.value


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_prices_are_kept_in_major_units(path, store):
    store.write([product_row(price_minor=129_900, currency="USD")])

    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT product_name, price FROM products").fetchall()
    assert rows == [("Áo thun nam cổ tròn", 1299.0)]


def test_a_file_that_another_process_holds_is_an_outage_that_ends_with_it(path, store):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            store.write([product_row()])

    assert store.write([product_row()]) == {}


def test_a_full_disk_is_an_outage_and_leaves_nothing_half_written(path, store):
    store.write([product_row(id="before")])
    limit = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {limit}")

    with pytest.raises(StoreUnavailable):
        store.write([product_row(id=str(number), name="x" * 5_000) for number in range(50)])
    assert store.read_revisions(["before", "0", "49"]) == {"before": 1}

    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert store.write([product_row(id="after")]) == {}


def test_a_value_that_sqlite_cannot_hold_fails_alone(store):
    failures = store.write([product_row(id="bad", reviews_count=2**63), product_row(id="good")])

    assert list(failures) == ["bad"]
    assert isinstance(failures["bad"], RejectMessage)
    assert store.read_revisions(["bad", "good"]) == {"good": 1}


def test_setup_finishes_what_a_killed_process_began(path):
    execute(path, "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")

    with closing(SqliteSearchStore(path, timeout_seconds=0.5)) as store:
        store.setup(IDENTITY)
        assert store.write([product_row()]) == {}


def test_a_file_that_is_no_database_names_the_setting(path):
    path.write_bytes(b"not a database, " * 1000)

    assert refused(path).setting == "DATA_DIR"


def test_a_directory_that_cannot_be_made_names_the_setting(tmp_path):
    (tmp_path / "file").touch()

    assert refused(tmp_path / "file" / "search.db").setting == "DATA_DIR"


def test_a_directory_in_the_files_place_names_the_setting(path):
    path.mkdir()

    assert refused(path).setting == "DATA_DIR"


def test_another_schema_version_names_the_setting(path, store):
    execute(path, "UPDATE meta SET value = '2' WHERE key = 'schema_version'")

    error = refused(path)

    assert error.setting == "DATA_DIR"
    assert "schema version 2" in error.problem


def test_a_store_that_was_closed_opens_again(store):
    store.write([product_row()])
    store.close()

    assert store.read_revisions(["abc123"]) == {"abc123": 1}
