"""The SQL database: connections, transactions, durability."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
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
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from product_consumer.database.errors import translated_errors
from product_consumer.database.pool import MAY_TAKE, BudgetPool
from product_consumer.database.postgres import PostgresConnector, Session, is_server_to_leave
from product_consumer.database.postgres_url import read_postgres_url
from product_consumer.errors import ConfigurationError, LedgerUnavailable, RejectMessage
from product_consumer.settings import Settings

_LONG_SECONDS = 600
"""Timeout of statements that read a whole table; the others have the timeout of a store."""
_SETUP_LOCK_KEY = 0x70726F64  # any constant: PostgreSQL advisory locks are numbers
_SESSION = "session"
# A transaction that began by reading could not wait for another writer.
_SQLITE_SESSION = Session(begin="BEGIN IMMEDIATE")


class Database:
    """One SQLite file or PostgreSQL database, shared by everything that keeps tables in it.

    Thread-safe. It connects at the first use. Errors of the driver become ``LedgerUnavailable``,
    ``ConfigurationError`` or, for data that the database refuses, ``RejectMessage``.
    """

    def __init__(self, url: str, *, timeout_seconds: float, connections: int) -> None:
        """``connections``: how many may be open at a time.

        Raises ``ConfigurationError`` for a URL that is neither SQLite's nor PostgreSQL's.
        """
        self._timeout_seconds = timeout_seconds
        self._engine, self.address = _open_engine(url, timeout_seconds, connections)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        # SQLite has one writer: threads queue here in turn instead of polling the file's lock.
        self._writer = threading.Lock()

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
        with translated_errors(), self._engine.connect() as connection:
            # A transaction costs two more round trips, so there is none where none is needed.
            session = _session_of(connection)
            if session.reads_in_transaction:
                connection.exec_driver_sql(session.begin)
            yield connection
            if session.reads_in_transaction:
                connection.commit()

    @contextmanager
    def reading_long(self) -> Iterator[Connection]:
        """The same with a longer timeout, for statements that read a whole table."""
        if self.is_sqlite:
            with self.reading() as connection:
                yield connection
            return
        with translated_errors(), self._transaction() as connection:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{_LONG_SECONDS}s'")
            info = connection.info
            info[MAY_TAKE] = 2.0 * _LONG_SECONDS
            try:
                yield connection
            finally:
                info.pop(MAY_TAKE, None)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block. It may have savepoints."""
        with self._turn_to_write(), translated_errors(), self._transaction() as connection:
            yield connection

    @contextmanager
    def rehearsing(self) -> Iterator[Connection]:
        """A transaction whose statements are taken back, and which is committed all the same.

        It fails wherever a real one would: a lock, a missing right, a server that only reads. What
        is written in it is good, so a refusal of it raises ``LedgerUnavailable``, too.
        """
        try:
            with self.writing() as connection:
                if self.is_sqlite:
                    # Nobody reads this number. Writing it makes the commit reach the disk.
                    connection.exec_driver_sql("PRAGMA user_version = 0")
                savepoint = connection.begin_nested()
                yield connection
                savepoint.rollback()
        except RejectMessage as error:
            detail = f"refuses even a test record: {error.detail}"
            raise LedgerUnavailable("ledger", detail) from error

    def writing_in_steps(self) -> AbstractContextManager[Connection]:
        """A connection for statements that may stay when a later one fails.

        On PostgreSQL each statement is a transaction of its own, which saves two round trips. On
        SQLite, where a commit waits for the disk, all are one transaction.
        """
        return self.writing() if self.is_sqlite else self.reading()

    @contextmanager
    def setting_up(self) -> Iterator[Connection]:
        """A transaction for creating tables; one process at a time may be in it."""
        if self.is_sqlite:
            with translated_errors(), self._engine.connect() as connection:
                # The journal mode lives in the file: set once, here, outside any transaction.
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SETUP_LOCK_KEY})")
                _refuse_lazy_commits(connection)
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        # Connections are in autocommit, where a commit or a rollback ends what BEGIN has begun.
        with self._engine.begin() as connection:
            connection.exec_driver_sql(_session_of(connection).begin)
            yield connection

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self._writer.acquire(timeout=self._timeout_seconds):
            raise LedgerUnavailable("ledger", f"no turn to write for {self._timeout_seconds:g} s")
        try:
            yield
        finally:
            self._writer.release()


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name; connects to nothing yet."""
    return Database(
        settings.ledger_url,
        timeout_seconds=settings.store_timeout_seconds,
        connections=settings.connection_budget,
    )


def _open_engine(url: str, timeout_seconds: float, connections: int) -> tuple[Engine, str]:
    """Return an engine and the URL without its passwords."""
    backend = url.partition(":")[0].partition("+")[0].lower()
    options: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        "poolclass": BudgetPool,
        "pool_size": connections,
        "pool_timeout": timeout_seconds,
        # Every transaction is ended where it was begun.
        "pool_reset_on_return": None,
    }
    if backend == "sqlite":
        return _open_sqlite(url, timeout_seconds, options)
    if backend in ("postgresql", "postgres"):
        return _open_postgres(url, timeout_seconds, options)
    if "://" not in url:
        raise ConfigurationError("DATABASE_URL", "is not a database URL")
    raise ConfigurationError(
        "DATABASE_URL", f"{backend!r} is not supported: use sqlite:/// or postgresql+psycopg://"
    )


def _open_sqlite(url: str, timeout_seconds: float, options: dict[str, Any]) -> tuple[Engine, str]:
    try:
        parsed = make_url(url).set(drivername="sqlite")
    except (ArgumentError, ValueError):
        raise ConfigurationError("DATABASE_URL", "is not a database URL") from None
    _make_directory(parsed.database)
    engine = create_engine(parsed, connect_args={"timeout": timeout_seconds}, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    return engine, parsed.render_as_string()


def _open_postgres(url: str, timeout_seconds: float, options: dict[str, Any]) -> tuple[Engine, str]:
    read = read_postgres_url(url, timeout_seconds)
    connector = PostgresConnector(read, timeout_seconds)
    engine = create_engine("postgresql+psycopg://", use_native_hstore=False, **options)

    @event.listens_for(engine, "do_connect")
    def connect(
        _dialect: object, record: ConnectionPoolEntry, _arguments: object, options: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        connection, record.info[_SESSION] = connector.connect(options.get("context"))
        return connection

    event.listen(engine, "handle_error", _leave_server)
    return engine, read.address


def _session_of(connection: Connection) -> Session:
    session: Session = connection.info.get(_SESSION, _SQLITE_SESSION)
    return session


def _leave_server(context: ExceptionContext) -> None:
    if is_server_to_leave(context.original_exception):
        # SQLAlchemy then closes this connection, and the pool all that were opened before.
        context.is_disconnect = True


def _refuse_lazy_commits(connection: Connection) -> None:
    setting = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
    if setting == "off":
        raise ConfigurationError(
            "DATABASE_URL", "synchronous_commit is off there: an acknowledged message could be lost"
        )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    [(encoding,)] = connection.execute("PRAGMA encoding")
    if encoding != "UTF-8":
        # In UTF-16 SQLite drops a byte order mark, and texts that differ become one.
        raise ConfigurationError(
            "DATABASE_URL",
            f"the SQLite file is in {encoding}: only UTF-8 can keep any text",
        )


def _make_directory(database: str | None) -> None:
    if not database or database == ":memory:":
        raise ConfigurationError("DATABASE_URL", "an SQLite ledger needs a file")
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError("DATA_DIR", f"cannot be created: {error.strerror}") from error
