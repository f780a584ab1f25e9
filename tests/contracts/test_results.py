"""The table of results on both of its databases: one row per request and stage, for any id."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from product_consumer.database.connection import Database
from product_consumer.errors import ConfigurationError, LedgerUnavailable
from product_consumer.streams.results import DONE, REJECTED, ResultStore, StageResult

AT = datetime(2026, 11, 21, 14, 30, tzinfo=UTC)
RESULT = StageResult("c-1", "classify", "classification", DONE, '{"label": "a"}', None, "m", AT)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    is_sqlite = request.param == "sqlite"
    file = f"sqlite:///{tmp_path / 'products.db'}"
    url = file if is_sqlite else str(request.getfixturevalue("postgres_url"))
    with closing(Database(url, timeout_seconds=10, connections=12)) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> ResultStore:
    opened = ResultStore(database)
    opened.setup()
    return opened


def test_a_result_is_found_by_its_request(store: ResultStore) -> None:
    rejected = StageResult("c-1", "preprocess", "image", REJECTED, None, "image_corrupt", None, AT)
    store.record([RESULT, rejected])

    assert store.of("c-1") == [RESULT, rejected]
    assert store.of("c-2") == []
    assert store.present(["c-1", "c-2"]) == {"c-1"}
    assert store.present([]) == set()


def test_a_repeated_result_changes_nothing_but_when_it_was_updated(
    store: ResultStore, database: Database
) -> None:
    later = AT + timedelta(hours=1)
    store.record([RESULT])

    store.record([replace(RESULT, created_at=later)])

    assert store.of("c-1") == [RESULT]
    with database.reading() as connection:
        [row] = connection.execute(text("SELECT created_at, updated_at FROM results"))
    assert str(row.created_at) < str(row.updated_at)


def test_a_message_that_was_rejected_and_sent_again_is_done(store: ResultStore) -> None:
    store.record([replace(RESULT, status=REJECTED, result=None, reason="image_corrupt")])

    store.record([RESULT])

    assert store.of("c-1") == [RESULT]


def test_of_two_results_in_one_batch_the_last_stays(store: ResultStore) -> None:
    last = replace(RESULT, result=json.dumps({"label": "b"}))

    store.record([RESULT, last])

    assert store.of("c-1") == [last]


@pytest.mark.parametrize(
    "correlation_id", ["a\x00b", "\ud800", "x" * 5000, "é日本", "' OR 1=1 --", "%", "a\nb", " "]
)
def test_any_text_is_a_correlation_id(store: ResultStore, correlation_id: str) -> None:
    store.record([replace(RESULT, correlation_id=correlation_id, reason="\x00", model="\udfff")])

    assert len(store.of(correlation_id)) == 1
    assert store.present([correlation_id]) == {correlation_id}
    assert store.of("c-1") == []


def test_the_latest_results_come_first(store: ResultStore) -> None:
    store.record(
        [
            replace(RESULT, created_at=AT + timedelta(seconds=n), correlation_id=str(n))
            for n in range(5)
        ]
    )

    assert [row.correlation_id for row in store.latest(limit=2)] == ["4", "3"]
    assert store.latest(status=REJECTED) == store.latest(kind="\x00") == []
    assert len(store.latest(status=DONE, kind="classification")) == 5


def test_threads_store_the_same_requests_without_waiting_in_a_circle(store: ResultStore) -> None:
    batches = [
        [replace(RESULT, correlation_id=str((n + shift) % 20)) for n in range(20)]
        for shift in range(8)
    ]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(store.record, batches))

    assert len(store.latest()) == 20


def test_a_probe_leaves_nothing_and_tells_of_a_missing_table(
    store: ResultStore, database: Database
) -> None:
    store.probe()
    assert store.latest() == []

    with database.writing() as connection:
        connection.execute(text("DROP TABLE results"))
    with pytest.raises((LedgerUnavailable, ConfigurationError)):
        store.probe()
