"""Connections to PostgreSQL, straight or through a connection pooler such as PgBouncer.

Straight, a session has our timeouts from its start. Behind a pooler, one session serves many
clients, and the next transaction may run in another one. So nothing may stay behind in a session:
no setting and no prepared statement. Settings are made anew in each transaction there.
"""

import contextlib
import os
import socket
import threading
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.abc import AdaptContext
from psycopg.types.array import ListBinaryDumper

from product_consumer.database.postgres_url import PostgresUrl, options_of
from product_consumer.errors import ConfigurationError

_PREPARES_AFTER: Final = 5
"""Uses of a statement after which the driver prepares it."""
_TIMEOUTS = ("statement_timeout", "lock_timeout")
# The server's process as it says itself, and the timeouts that the client asked for: a pooler makes
# up the number of the process that the driver has been told.
_ABOUT_SESSION = """
SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_encoding'),
ARRAY(SELECT name FROM pg_catalog.pg_settings WHERE source = 'client')
"""
_REFUSED_OPTIONS = ("unsupported startup parameter", "support command-line options")
# SQLSTATEs of a server that can only be read, or is going away, and of a session that it ended.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_LEFT_SQLSTATES = ("08", "25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P04", "57P05")


@dataclass(frozen=True, slots=True)
class Session:
    """How transactions begin in a session."""

    begin: str = "BEGIN"
    reads_in_transaction: bool = False
    """Whether what only reads needs a transaction, for its timeouts."""


class PostgresConnector:
    """Opens connections to the server of one URL. Thread-safe."""

    def __init__(self, url: PostgresUrl, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._milliseconds = str(int(timeout_seconds * 1000))
        self._are_options_refused = False

    def connect(self, context: AdaptContext | None) -> tuple[psycopg.Connection[Any], Session]:
        """Return a connection in autocommit.

        Raises ``ConfigurationError`` for a database that is not in UTF-8, and ``psycopg.Error``.
        """
        connection = self._connect_without_refused_options(context)
        try:
            return connection, self._prepare(connection)
        except BaseException:
            connection.close()
            raise

    def _connect_without_refused_options(
        self, context: AdaptContext | None
    ) -> psycopg.Connection[Any]:
        if not self._are_options_refused:
            try:
                return self._connect_to_writable(context, dict(self._url.parameters))
            except psycopg.OperationalError as error:
                if not any(refusal in str(error) for refusal in _REFUSED_OPTIONS):
                    raise
        # The empty text also stands for PGOPTIONS, which libpq would add.
        connection = self._connect_to_writable(context, {**self._url.parameters, "options": ""})
        self._are_options_refused = True
        return connection

    def _connect_to_writable(
        self, context: AdaptContext | None, parameters: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        """Of the addresses of a name, prefer one that can be written to."""
        if not self._url.is_target_given:
            try:
                return _connect(context, parameters | {"target_session_attrs": "read-write"})
            except psycopg.OperationalError as error:
                if "session is read-only" not in str(error):
                    raise
        return _connect(context, parameters)

    def _prepare(self, connection: psycopg.Connection[Any]) -> Session:
        # By default the driver sends arrays as text, at three times the cost, and more for binary.
        connection.adapters.register_dumper(list, ListBinaryDumper)
        connection.prepare_threshold = None
        # A pooler may let the session's first statement wait for a server.
        limit = threading.Timer(self._timeout_seconds, cut, [connection])
        limit.daemon = True
        with contextlib.suppress(RuntimeError):  # without a thread to spare, there is no limit
            limit.start()
        try:
            found = connection.execute(_ABOUT_SESSION).fetchone()
        finally:
            limit.cancel()
        process, encoding, asked_for = found or (0, "", [])
        if encoding != "UTF8" or connection.info.encoding != "utf-8":
            name = connection.info.dbname
            raise ConfigurationError(
                "DATABASE_URL",
                f"the database {name!r} is in {encoding}: only UTF8 can keep any text",
            )
        is_pooled = self._are_options_refused or process != connection.info.backend_pid
        prepares_after = self._url.prepares_after
        if prepares_after is None:
            prepares_after = 0 if is_pooled else _PREPARES_AFTER
        connection.prepare_threshold = prepares_after or None
        if is_pooled:
            return self._pooled_session()
        missing = [name for name in _TIMEOUTS if name not in asked_for]
        if missing:
            values = dict.fromkeys(missing, self._milliseconds)
            connection.execute(_set(values, is_local=False))
        return Session()

    def _pooled_session(self) -> Session:
        values = dict.fromkeys(_TIMEOUTS, self._milliseconds) | options_of(self._url.parameters)
        begin = sql.SQL("BEGIN; {}").format(_set(values, is_local=True)).as_string(None)
        # SQLAlchemy gives it to the driver together with (no) parameters.
        return Session(begin.replace("%", "%%"), reads_in_transaction=True)


def cut(connection: object) -> None:
    """End a connection's socket, so that the thread that waits for its server goes on and fails."""
    if not isinstance(connection, psycopg.Connection):
        return
    # By another descriptor: the thread that uses the connection closes its own.
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as same,
    ):
        same.shutdown(socket.SHUT_RDWR)


def _connect(context: AdaptContext | None, parameters: dict[str, Any]) -> psycopg.Connection[Any]:
    return psycopg.connect(context=context, autocommit=True, **parameters)


def is_server_to_leave(error: BaseException) -> bool:
    """Return whether after this error every connection to the server should be closed.

    A server that was demoted refuses writes. Only a new connection can find its successor.
    """
    return (getattr(error, "sqlstate", None) or "").startswith(_LEFT_SQLSTATES)


def _set(values: dict[str, str], *, is_local: bool) -> sql.Composed:
    calls = [
        sql.SQL("pg_catalog.set_config({}, {}, {})").format(name, value, is_local)
        for name, value in values.items()
    ]
    return sql.SQL("SELECT ") + sql.SQL(", ").join(calls)
