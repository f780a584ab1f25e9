"""Sessions with a real PostgreSQL, straight and through PgBouncer."""

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy
from psycopg import errors

from product_consumer.database.connection import Database
from product_consumer.database.postgres import is_server_to_leave
from product_consumer.errors import ConfigurationError, LedgerUnavailable
from tests.support import backends
from tests.support.backends import ask

SETTINGS = ("statement_timeout", "lock_timeout", "search_path")


def opened(url: str) -> Database:
    return Database(url, timeout_seconds=10, connections=3)


def shown(url: str) -> list[str]:
    """The settings of a session, in what reads and in what writes."""
    with closing(opened(url)) as database:
        found = []
        for connecting in (database.reading, database.writing):
            with connecting() as connection:
                found.append(
                    [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in SETTINGS]
                )
    assert found[0] == found[1]
    return found[0]


@pytest.fixture(params=["postgresql", "pgbouncer"])
def url(request: pytest.FixtureRequest) -> str:
    fixture = {"postgresql": "postgres_url", "pgbouncer": "pgbouncer_url"}[request.param]
    return str(request.getfixturevalue(fixture))


def test_a_session_has_timeouts(url: str) -> None:
    assert shown(url) == ["10s", "10s", '"$user", public']


def test_the_options_of_the_url_win_and_the_others_stay(url: str) -> None:
    options = quote("-c search_path=app,public -c statement_timeout=7s")

    assert shown(f"{url}?options={options}") == ["7s", "10s", "app,public"]


def test_options_of_the_environment_win_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c lock_timeout=3s")

    assert shown(url)[:2] == ["10s", "3s"]


def test_a_value_with_signs_that_mean_something_in_sql_is_a_value(url: str) -> None:
    options = quote('-c search_path="it\'s\\ 50%"')

    assert shown(f"{url}?options={options}")[2] == '"it\'s 50%"'


def test_nothing_of_a_client_stays_behind_in_a_session_of_pgbouncer(pgbouncer_url: str) -> None:
    shown(f"{pgbouncer_url}?options={quote('-c search_path=app')}")

    with psycopg.connect(pgbouncer_url.replace("+psycopg", ""), autocommit=True) as other:
        left = [other.execute(f"SHOW {name}").fetchone() for name in SETTINGS]
        prepared = other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert left == [("0",), ("0",), ('"$user", public',)]
    assert prepared == (0,)


@pytest.mark.parametrize(
    ("query", "is_prepared"),
    [("", True), ("?prepare_threshold=none", False), ("?prepare_threshold=0", False)],
)
def test_statements_are_prepared_unless_the_url_says_no(
    postgres_url: str, query: str, is_prepared: bool
) -> None:
    with closing(opened(postgres_url + query)) as database, database.reading() as connection:
        for _ in range(8):
            connection.exec_driver_sql("SELECT 1")
        count = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements")
        assert (count.scalar_one() > 0) == is_prepared


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "EUC_JP"])
def other_encoding_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"in_{request.param.lower()}"
    how = f"ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    ask(postgres_server, f"CREATE DATABASE {name} {how}")
    yield sqlalchemy.make_url(postgres_server).set(database=name).render_as_string(False)
    backends.drop_database(postgres_server, name)


def test_a_database_that_cannot_keep_every_text_is_refused(other_encoding_url: str) -> None:
    with (
        closing(opened(other_encoding_url)) as database,
        pytest.raises(ConfigurationError, match=r"DATABASE_URL: .* only UTF8"),
        database.setting_up(),
    ):
        pass


def test_a_role_that_asks_for_another_encoding_gets_utf8(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = sqlalchemy.make_url(postgres_url).database
    ask(postgres_url, f'ALTER DATABASE "{name}" SET client_encoding = latin1')
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    with closing(opened(postgres_url)) as database, database.reading() as connection:
        assert connection.exec_driver_sql("SELECT 'đ₫'").scalar_one() == "đ₫"


def read_only(url: str, value: str) -> None:
    name = sqlalchemy.make_url(url).database
    ask(url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}', "postgres")


def test_sessions_with_a_server_that_was_demoted_are_left(postgres_url: str) -> None:
    """New sessions find a server that can be written to; open ones stay read only for ever."""
    read_only(postgres_url, "on")
    with closing(opened(postgres_url)) as database:
        # Two sessions: one will be told that it is read only, the other stays idle.
        with database.reading(), database.reading() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        read_only(postgres_url, "off")

        with (
            pytest.raises(LedgerUnavailable, match="read-only"),
            database.writing() as connection,
            connection.begin_nested(),
        ):
            connection.exec_driver_sql("CREATE TABLE here (id int)")
        with database.writing() as first, database.writing() as second:
            first.exec_driver_sql("CREATE TABLE here (id int)")
            second.exec_driver_sql("CREATE TABLE there (id int)")


def test_reading_goes_on_while_a_server_can_only_be_read(postgres_url: str) -> None:
    read_only(postgres_url, "on")
    with closing(opened(postgres_url)) as database, database.reading() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_of_several_hosts_the_one_that_can_be_written_to_is_taken(postgres_url: str) -> None:
    """The same server under two names, of which the first leads nowhere."""
    url = sqlalchemy.make_url(postgres_url)
    hosts = f"127.0.0.1:{backends.free_port()},127.0.0.1:{url.port}"
    with closing(opened(f"postgresql://postgres@{hosts}/{url.database}")) as database:
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        database.close()
        read_only(postgres_url, "on")
        with pytest.raises(LedgerUnavailable, match="read-only"), database.reading():
            pass


@pytest.mark.parametrize(
    ("error", "is_left"),
    [
        (errors.ReadOnlySqlTransaction, True),
        (errors.AdminShutdown, True),
        (errors.CrashShutdown, True),
        (errors.CannotConnectNow, True),
        (errors.DatabaseDropped, True),
        (errors.IdleSessionTimeout, True),
        (errors.IdleInTransactionSessionTimeout, True),
        (errors.ConnectionFailure, True),
        (errors.ProtocolViolation, True),
        (errors.QueryCanceled, False),
        (errors.LockNotAvailable, False),
        (errors.UniqueViolation, False),
        (errors.DiskFull, False),
        (errors.SerializationFailure, False),
        (ValueError, False),
    ],
)
def test_only_a_server_that_goes_or_cannot_be_written_to_is_left(
    error: type[Exception], is_left: bool
) -> None:
    assert is_server_to_leave(error()) == is_left
