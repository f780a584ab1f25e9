"""The SQL database: connections, transactions, durability."""

import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Table,
    TableValuedAlias,
    Text,
    any_,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DisconnectionError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from product_consumer.database.errors import translated_errors
from product_consumer.errors import ConfigurationError
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

_IDLE_SECONDS = 5.0
"""Idle for longer, a connection is tested before it is used: firewalls and restarts cut idle ones.
A test before every use would cost a round trip each."""
_LONG_SECONDS = 600
"""Timeout of statements that read a whole table; the others have the timeout of a store."""
_SETUP_LOCK_KEY = 0x70726F64  # any constant: PostgreSQL advisory locks are numbers
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


class Database:
    """One SQLite file or PostgreSQL database, shared by everything that keeps tables in it.

    Thread-safe. It connects at the first use. Errors of the driver become ``LedgerUnavailable``,
    ``ConfigurationError`` or, for data that the database refuses, ``RejectMessage``.
    """

    def __init__(self, url: str, *, timeout_seconds: float, connections: int) -> None:
        """Raises ``ConfigurationError`` for a URL that is neither SQLite's nor PostgreSQL's."""
        self._engine = _open_engine(url, timeout_seconds, connections)
        # Reads need no transaction: its begin and end are two more round trips. So reads
        # have connections of their own, always in autocommit. Switching a shared connection at
        # each use costs more than some queries.
        self._without_transaction = _open_engine(
            url,
            timeout_seconds,
            connections,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
        )
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        # SQLite has one writer: threads queue here in turn instead of polling the file's lock.
        self._writer: AbstractContextManager[Any] = (
            threading.Lock() if self.is_sqlite else nullcontext()
        )

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def insert(self, table: Table) -> Any:
        """An ``INSERT`` that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        return (sqlite if self.is_sqlite else postgresql).insert(table)

    def table_of(self, name: str) -> TableValuedAlias:
        """A table of the texts in the parameter ``name``, in its column ``value``.

        The statement is the same for any number of texts. ``texts`` makes the parameter.
        """
        if self.is_sqlite:
            return func.json_each(bindparam(name)).table_valued("value")
        array = cast(bindparam(name), ARRAY(Text))
        return func.unnest(array).table_valued("value").render_derived()

    def among(self, column: Column[Any], name: str) -> ColumnElement[bool]:
        """The condition that a column of text is among the texts in the parameter ``name``."""
        if self.is_sqlite:
            return column.in_(select(self.table_of(name).c.value))
        return column == any_(cast(bindparam(name), ARRAY(Text)))

    def texts(self, values: Iterable[str]) -> object:
        """The parameter of ``table_of`` and ``among``."""
        return json.dumps(list(values)) if self.is_sqlite else list(values)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with; each statement sees all that was committed before it."""
        with translated_errors(), self._without_transaction.connect() as connection:
            yield connection

    @contextmanager
    def reading_long(self) -> Iterator[Connection]:
        """The same with a longer timeout, for statements that read a whole table."""
        with translated_errors(), self._engine.begin() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{_LONG_SECONDS}s'")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block.

        On SQLite its first statement must write: a transaction that began by reading cannot wait
        for another writer.
        """
        with self._writer, translated_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def rehearsing(self) -> Iterator[Connection]:
        """A transaction whose statements are taken back, and which is committed all the same.

        It fails wherever a real one would: a lock, a missing right, a server that only reads.
        """
        with self.writing() as connection:
            if self.is_sqlite:
                # Nobody reads this number. Writing it makes the commit reach the disk.
                connection.exec_driver_sql("PRAGMA user_version = 0")
            savepoint = connection.begin_nested()
            yield connection
            savepoint.rollback()

    def writing_in_steps(self) -> AbstractContextManager[Connection]:
        """A connection for statements that may stay when a later one fails. The first must write.

        On PostgreSQL each statement is a transaction of its own, which saves two round trips. On
        SQLite, where a commit waits for the disk, all are one transaction.
        """
        return self.writing() if self.is_sqlite else self.reading()

    @contextmanager
    def setting_up(self) -> Iterator[Connection]:
        """A transaction for creating tables; one process at a time may be in it."""
        with translated_errors(), self._engine.connect() as connection:
            if self.is_sqlite:
                # The journal mode lives in the file: set once, here, outside any transaction.
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                connection.rollback()
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SETUP_LOCK_KEY})")
                _refuse_lazy_commits(connection)
            yield connection
            connection.commit()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        self._without_transaction.dispose()


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name; connects to nothing yet."""
    return Database(
        settings.ledger_url,
        timeout_seconds=settings.store_timeout_seconds,
        connections=settings.threads + 2,
    )


def _open_engine(url: str, timeout_seconds: float, connections: int, **options: Any) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError("DATABASE_URL", "is not a database URL") from None
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise ConfigurationError(
            "DATABASE_URL", f"{backend!r} is not supported: use sqlite:/// or postgresql+psycopg://"
        )
    arguments: dict[str, Any] = {"timeout": timeout_seconds}
    if backend == "sqlite":
        _make_directory(parsed.database)
    else:
        milliseconds = int(timeout_seconds * 1000)
        arguments = {
            "connect_timeout": max(2, int(timeout_seconds)),
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
            "keepalives_idle": 30,
            "tcp_user_timeout": milliseconds,
        }
    try:
        engine = create_engine(
            parsed.set(drivername=_DRIVERS[backend]),
            connect_args=arguments,
            pool_size=connections,
            max_overflow=connections,
            pool_timeout=timeout_seconds,
            **options,
        )
    except (SQLAlchemyError, NoSuchModuleError, ImportError) as error:
        raise ConfigurationError("DATABASE_URL", str(error)) from error
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        event.listen(engine, "connect", _send_arrays_as_bytes)
        event.listen(engine, "checkin", _record_use)
        event.listen(engine, "checkout", _test_after_idling)
    return engine


def _refuse_lazy_commits(connection: Connection) -> None:
    setting = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
    if setting == "off":
        raise ConfigurationError(
            "DATABASE_URL", "synchronous_commit is off there: an acknowledged message could be lost"
        )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _send_arrays_as_bytes(connection: psycopg.Connection[Any], _record: object) -> None:
    # By default the driver sends arrays as text, at three times the cost, and more for binary ones.
    connection.adapters.register_dumper(list, ListBinaryDumper)


def _record_use(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = monotonic()


def _test_after_idling(
    connection: psycopg.Connection[Any], record: ConnectionPoolEntry, _proxy: object
) -> None:
    """Replace a connection that was cut while it was idle; a connection in use fails by itself."""
    if monotonic() - record.info.get("used_at", monotonic()) < _IDLE_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except psycopg.Error as error:
        raise DisconnectionError from error


def _make_directory(database: str | None) -> None:
    if not database or database == ":memory:":
        raise ConfigurationError("DATABASE_URL", "an SQLite ledger needs a file")
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError("DATA_DIR", f"cannot be created: {error.strerror}") from error
