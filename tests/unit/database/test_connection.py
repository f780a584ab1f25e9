"""One database for all tables: what a URL may be, how transactions end, how errors leave."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, select, text
from sqlalchemy.exc import IntegrityError

from product_consumer.database.connection import Database, open_database
from product_consumer.errors import ConfigurationError, LedgerUnavailable, RejectMessage
from product_consumer.settings import Settings

words = Table(
    "words",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False),
)
STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'a' / 'new' / 'folder' / 'words.db'}"
    else:
        fixture = {"postgresql": "postgres_url", "pgbouncer": "pgbouncer_url"}[request.param]
        url = str(request.getfixturevalue(fixture))
    opened = Database(url, timeout_seconds=10, connections=4)
    with opened.setting_up() as connection:
        words.create(connection)
    yield opened
    opened.close()


def add(database: Database, *ids: str) -> None:
    with database.writing() as connection:
        connection.execute(database.insert(words), [{"id": each, "number": 0} for each in ids])


def held(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(connection.execute(select(words.c.id)).scalars())


def test_what_is_written_is_read(database: Database) -> None:
    add(database, "a", "b")

    assert held(database) == {"a", "b"}


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        connection.execute(words.insert(), {"id": "a", "number": 1})
        raise ZeroDivisionError

    assert held(database) == set()


def test_a_connection_that_failed_is_used_again(database: Database) -> None:
    for _ in range(10):
        with pytest.raises(RejectMessage):
            add(database, "a", "a")
    add(database, "a")

    assert held(database) == {"a"}


def test_a_savepoint_that_fails_leaves_the_rest_of_its_transaction(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(words.insert(), {"id": "a", "number": 1})
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(words.insert(), {"id": "a", "number": 2})
        with connection.begin_nested() as savepoint:
            connection.execute(words.insert(), {"id": "b", "number": 3})
            savepoint.rollback()
        connection.execute(words.insert(), {"id": "c", "number": 4})

    assert held(database) == {"a", "c"}


def test_what_only_reads_sees_what_is_committed_meanwhile(database: Database) -> None:
    with database.reading() as connection:
        count = select(func.count()).select_from(words)
        before = connection.execute(count).scalar_one()
        add(database, "a")
        after = connection.execute(count).scalar_one()

    assert (before, after) == (0, 1)


def test_writers_take_turns(database: Database) -> None:
    add(database, "a")
    raise_number = words.update().values(number=words.c.number + 1)

    def count_up(_: int) -> None:
        with database.writing() as connection:
            connection.execute(raise_number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count_up, range(80)))
    with database.reading() as connection:
        assert connection.execute(select(words.c.number)).scalar_one() == 80


def test_a_transaction_that_reads_first_waits_for_other_programs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'words.db'}"
    programs = [Database(url, timeout_seconds=10, connections=2) for _ in range(2)]
    with programs[0].setting_up() as connection:
        words.create(connection)
    add(programs[0], "a")

    def count_up(program: Database) -> None:
        for _ in range(20):
            with program.writing() as connection:
                number = connection.execute(select(words.c.number)).scalar_one()
                connection.execute(words.update().values(number=number + 1))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(count_up, programs))
    with programs[0].reading() as connection:
        assert connection.execute(select(words.c.number)).scalar_one() == 40
    for program in programs:
        program.close()


def test_an_insert_may_say_what_becomes_of_a_row_that_is_there(database: Database) -> None:
    add(database, "a")
    statement = database.insert(words).on_conflict_do_nothing()
    with database.writing() as connection:
        connection.execute(statement, [{"id": "a", "number": 5}, {"id": "b", "number": 5}])

    assert held(database) == {"a", "b"}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(wanted=st.lists(STORABLE, max_size=8))
def test_any_texts_are_one_parameter(database: Database, wanted: list[str]) -> None:
    with database.reading() as connection:
        table = database.table_of("wanted")
        parameters = {"wanted": database.texts(wanted)}
        found = connection.execute(select(table.c.value), parameters).scalars()
        assert sorted(found) == sorted(wanted)


def test_among_finds_exactly_the_rows_that_are_asked_for(database: Database) -> None:
    ids = ["plain", "it's", '{"json"}', "{a,b}", "", "₫", "\\", "%", "NULL"]
    add(database, *ids)
    statement = select(words.c.id).where(database.among(words.c.id, "wanted"))
    with database.reading() as connection:
        for each in ids:
            parameters = {"wanted": database.texts([each, "absent"])}
            assert connection.execute(statement, parameters).scalars().all() == [each]
        assert connection.execute(statement, {"wanted": database.texts([])}).all() == []


def test_one_process_at_a_time_sets_up(database: Database) -> None:
    inside = threading.Semaphore(1)

    def set_up(_: int) -> bool:
        with database.setting_up():
            alone = inside.acquire(blocking=False)
            threading.Event().wait(0.05)
            inside.release()
            return alone

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(set_up, range(4)))


@pytest.mark.parametrize("statement", ["SELECT * FROM absent", "SELECT nothing FROM words"])
def test_a_table_that_is_not_there_is_no_message_s_fault(
    database: Database, statement: str
) -> None:
    with pytest.raises((ConfigurationError, LedgerUnavailable)), database.reading() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("value", ["a\ud800", 2**70])
def test_a_value_that_no_database_takes_rejects_its_message(
    database: Database, value: object
) -> None:
    with pytest.raises(RejectMessage, match="store_rejected"), database.writing() as connection:
        connection.execute(words.insert(), {"id": "a", "number": value})
    assert held(database) == set()


@pytest.mark.parametrize(
    "url",
    [
        *("", "nonsense", "mysql://host/db", "oracle://host/db", "sqlite://", "sqlite:///:memory:"),
        *("postgresql://host:port/db", "postgresql://user:pass@host:a/db"),
    ],
)
def test_a_url_that_cannot_work_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as refused:
        Database(url, timeout_seconds=1, connections=1)
    assert "pass" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_an_sqlite_file_that_cannot_keep_every_text_is_refused(
    tmp_path: Path, encoding: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "words.db")) as file:
        file.execute(f"PRAGMA encoding = '{encoding}'")
        file.execute("CREATE TABLE anything (id TEXT)")
    database = Database(f"sqlite:///{tmp_path / 'words.db'}", timeout_seconds=1, connections=1)

    with pytest.raises(ConfigurationError, match=f"DATABASE_URL: .* {encoding}"):
        add(database, "a")
    database.close()


def test_a_turn_to_write_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'words.db'}", timeout_seconds=0.05, connections=2)
    with (
        database.writing(),
        pytest.raises(LedgerUnavailable, match="no turn to write"),
        database.writing(),
    ):
        pass
    database.close()


@pytest.mark.parametrize("name", ["a?x", "a%20b", "a%2Fb", "a#b", "a b", "à;ü", "a+b", "a&b=c"])
def test_the_ledger_lies_in_the_data_directory_whatever_its_name(tmp_path: Path, name: str) -> None:
    database = open_database(Settings(data_dir=tmp_path / name))
    with database.setting_up() as connection:
        words.create(connection)
    database.close()

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "products.db").is_file()


def test_a_directory_that_cannot_be_made_is_the_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="DATA_DIR"):
        Database(f"sqlite:///{tmp_path / 'file' / 'words.db'}", timeout_seconds=1, connections=1)


def test_a_server_that_nobody_runs_is_unavailable() -> None:
    database = Database("postgresql://postgres@127.0.0.1:1/db", timeout_seconds=2, connections=1)
    with pytest.raises(LedgerUnavailable, match="ledger is unavailable"), database.reading():
        pass
    database.close()


def test_the_address_hides_the_password() -> None:
    url = "postgresql://user:secret@db.example/products"
    database = Database(url, timeout_seconds=1, connections=1)

    assert "secret" not in database.address
    assert "db.example/products" in database.address


@pytest.mark.parametrize(("setting", "value"), [("synchronous", 2), ("foreign_keys", 1)])
def test_every_connection_to_sqlite_is_strict_about_disk_and_keys(
    tmp_path: Path, setting: str, value: int
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'words.db'}", timeout_seconds=1, connections=1)
    for connecting in (database.reading, database.writing):
        with connecting() as connection:
            assert connection.exec_driver_sql(f"PRAGMA {setting}").scalar_one() == value
    database.close()
