"""The budget of connections: who waits, who gets one, and which are closed."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from product_consumer.database import pool
from product_consumer.database.connection import Database
from product_consumer.database.pool import MAY_TAKE
from product_consumer.errors import LedgerUnavailable
from tests.acceptance.world import wait_until
from tests.support.backends import ask
from tests.support.forwarder import Forwarder

NOTICED_SECONDS = 10.0


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'words.db'}"


@pytest.fixture
def role_url(postgres_url: str) -> Iterator[Callable[[int], str]]:
    """URLs of roles that may have so many connections."""
    url = sqlalchemy.make_url(postgres_url)
    roles = []

    def limited(connections: int) -> str:
        name = f"{url.database}_{connections}"
        ask(postgres_url, f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {connections}")
        roles.append(name)
        return url.set(username=name).render_as_string(hide_password=False)

    yield limited
    for name in roles:
        ask(postgres_url, f"DROP ROLE {name}")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections are closed soon, and the server is asked for another one soon."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(pool, "_REFUSED_SECONDS", 0.05)
    monkeypatch.setattr(pool, "_WATCH_SECONDS", 0.02)


def state(database: Database) -> str:
    return database._engine.pool.status()


def one(database: Database) -> Any:
    with database.reading() as connection:
        return connection.exec_driver_sql("SELECT 1").scalar_one()


def test_reads_and_writes_share_one_budget(sqlite_url: str) -> None:
    with closing(Database(sqlite_url, timeout_seconds=0.1, connections=2)) as database:
        with database.reading(), database.writing():
            assert state(database) == "2 of 2 connections are open, 0 idle"
            with pytest.raises(LedgerUnavailable, match="no free connection"):
                one(database)
        assert state(database) == "2 of 2 connections are open, 2 idle"


def test_many_threads_get_on_with_one_connection(sqlite_url: str) -> None:
    with (
        closing(Database(sqlite_url, timeout_seconds=10, connections=1)) as database,
        ThreadPoolExecutor(16) as threads,
    ):
        assert sum(threads.map(lambda _: one(database), range(200))) == 200
        assert state(database) == "1 of 1 connections are open, 1 idle"


def test_the_connection_that_was_used_last_is_used_first(sqlite_url: str) -> None:
    with closing(Database(sqlite_url, timeout_seconds=10, connections=3)) as database:
        with database.reading(), database.reading() as second:
            used = second.connection.driver_connection
        # The outer one came back last.
        with database.reading() as outer, database.reading() as again:
            assert again.connection.driver_connection is used
            assert outer.connection.driver_connection is not used


def test_threads_share_the_connections_that_a_server_allows(
    role_url: Callable[[int], str],
) -> None:
    database = Database(role_url(2), timeout_seconds=20, connections=12)
    with closing(database), ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(lambda _: one(database), range(300))) == 300


def test_a_process_without_a_connection_says_why_and_recovers(
    role_url: Callable[[int], str], quick: None
) -> None:
    url = role_url(1)
    first = Database(url, timeout_seconds=10, connections=4)
    second = Database(url, timeout_seconds=10, connections=4)
    with closing(first), closing(second):
        with (
            first.reading(),
            pytest.raises(LedgerUnavailable, match="too many connections for role"),
        ):
            one(second)
        # The neighbour's connection is idle now, and is closed after a while.
        wait_until(lambda: state(first).startswith("0 of 4"), NOTICED_SECONDS)
        assert one(second) == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_idle_connections_are_closed(
    kind: str, request: pytest.FixtureRequest, quick: None
) -> None:
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[kind]
    url = str(request.getfixturevalue(fixture))
    with closing(Database(url, timeout_seconds=10, connections=4)) as database:
        with database.reading(), database.reading(), database.reading():
            pass
        wait_until(lambda: state(database).startswith("0 of 4"), NOTICED_SECONDS)
        assert state(database) == "0 of 4 connections are open, 0 idle"
        assert one(database) == 1


def test_idle_connections_that_were_cut_cost_no_failure(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_TEST_SECONDS", 0.0)
    with closing(Database(postgres_url, timeout_seconds=10, connections=4)) as database:
        with database.reading(), database.reading():
            pass
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
        ask(postgres_url, cut.format(sqlalchemy.make_url(postgres_url).database), "postgres")

        assert one(database) == 1
        assert state(database) == "1 of 4 connections are open, 1 idle"


def test_an_idle_connection_whose_server_is_frozen_is_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_TEST_SECONDS", 0.0)
    monkeypatch.setattr(pool, "_WATCH_SECONDS", 0.02)
    url = sqlalchemy.make_url(postgres_url)
    with Forwarder(postgres_url) as name:
        through = url.set(host="127.0.0.1", port=name.port).render_as_string(hide_password=False)
        with closing(Database(through, timeout_seconds=0.5, connections=4)) as database:
            assert one(database) == 1
            name.freeze()
            assert one(database) == 1


def test_a_connection_whose_server_never_answers_is_cut(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_WATCH_SECONDS", 0.02)
    url = f"{postgres_url}?options=-c%20statement_timeout%3D0"
    with closing(Database(url, timeout_seconds=10, connections=4)) as database:
        with pytest.raises(LedgerUnavailable), database.reading() as connection:
            connection.info[MAY_TAKE] = 0.1
            connection.exec_driver_sql("SELECT pg_sleep(60)")
        assert one(database) == 1


def test_a_wait_ends_with_a_connection_that_is_returned_while_another_is_being_opened(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler whose sessions are all taken, by this process itself."""
    with closing(Database(sqlite_url, timeout_seconds=30, connections=2)) as database:
        returned, asked = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as other, ExitStack() as using:
            using.enter_context(database.reading())
            create = database._engine.pool._create_connection

            def never(*_: object) -> Any:
                asked.set()
                returned.wait(20)
                return create()

            monkeypatch.setattr(database._engine.pool, "_create_connection", never)
            waiting = other.submit(one, database)
            assert asked.wait(20)
            using.close()
            assert waiting.result(20) == 1
            returned.set()


def test_a_machine_without_threads_to_spare_still_gets_connections(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with closing(Database(sqlite_url, timeout_seconds=1, connections=2)) as database:
        with database.reading():
            assert one(database) == 1
        assert state(database) == "2 of 2 connections are open, 2 idle"


def test_a_closed_pool_keeps_no_connection(sqlite_url: str) -> None:
    database = Database(sqlite_url, timeout_seconds=1, connections=2)
    before = database._engine.pool
    with database.reading():
        database.close()

    assert before.status() == "0 of 2 connections are open, 0 idle"
