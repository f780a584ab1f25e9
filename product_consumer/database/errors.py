"""Errors of the database drivers, turned into the errors of this program."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from product_consumer.environment import variable_quoted_in
from product_consumer.errors import ConfigurationError, LedgerUnavailable, RejectMessage
from product_consumer.network.addresses import check_host
from product_consumer.network.tls import clock_is_set
from product_consumer.refusals import IMPOSSIBLE_HOST, POSTGRESQL, Refusal, find_refusal

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_DATA_SQLSTATES = ("22", "23")
_HOST = re.compile(r"failed to resolve host '(.*?)'")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn every database error into ``LedgerUnavailable``, ``ConfigurationError`` or
    ``RejectMessage``.
    """
    try:
        yield
    except DBAPIError as error:
        raise _translate(error) from error
    except UnicodeError as error:
        if "idna" not in str(error):
            raise RejectMessage("store_rejected", f"ledger: {error}") from error
        raise ConfigurationError("DATABASE_URL", "its host is not a name of a host") from error
    except OverflowError as error:
        # A value that the driver cannot even send.
        raise RejectMessage("store_rejected", f"ledger: {error}") from error
    except PoolTimeoutError as error:
        raise LedgerUnavailable("ledger", "no free connection") from error


def _translate(error: DBAPIError) -> Exception:
    if isinstance(error.orig, sqlite3.Error):
        return _translate_sqlite(error.orig)
    detail = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "no answer"
    if isinstance(error, DataError) and not getattr(error.orig, "sqlstate", None):
        # The driver refused it before the server saw it: text with a NUL, for instance.
        return RejectMessage("store_rejected", f"ledger: {detail}")
    state = getattr(error.orig, "sqlstate", None)
    if state and state.startswith(_DATA_SQLSTATES):
        return RejectMessage("store_rejected", f"ledger: {state} {detail}")
    refusal = find_refusal(POSTGRESQL, [state]) if state else _refusal_of_connection(detail)
    if refusal is None or refusal.setting is None:
        return LedgerUnavailable("ledger", detail)
    # libpq reads variables of its own.
    variable = None if state else variable_quoted_in(detail.rpartition("failed: ")[2], "PG", '"')
    return ConfigurationError(variable or refusal.setting, f"{refusal.why}: {detail}")


def _refusal_of_connection(detail: str) -> Refusal | None:
    """Return the row for an error before the log-in, which has no SQLSTATE."""
    if "certificate" in detail and not clock_is_set():
        # libpq does not say what is wrong with a certificate.
        return None
    host = _HOST.search(detail)
    try:
        check_host(host[1] if host else "localhost")
    except ValueError:
        return find_refusal(POSTGRESQL, [IMPOSSIBLE_HOST])
    return find_refusal(POSTGRESQL, message=detail)


def _translate_sqlite(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ConfigurationError("DATABASE_URL", f"the SQLite file is damaged: {error}")
    if code == sqlite3.SQLITE_CANTOPEN:
        # SQLite does not say so, but this raises ``OSError`` where no more files can be opened.
        Path(os.devnull).open("rb").close()
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ConfigurationError("DATABASE_URL", f"the SQLite file cannot be written: {error}")
    if code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG):
        return RejectMessage("store_rejected", f"ledger: {error}")
    return LedgerUnavailable("ledger", str(error))
