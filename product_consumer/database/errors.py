"""Errors of the database drivers, turned into the errors of this program."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from product_consumer.errors import ConfigurationError, LedgerUnavailable, RejectMessage

# https://www.postgresql.org/docs/current/errcodes-appendix.html; all other classes pass with time.
_DATA_SQLSTATES = ("22", "23")
_CONFIGURATION_SQLSTATES = ("28", "3D", "3F", "42")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn every database error into ``LedgerUnavailable``, ``ConfigurationError`` or
    ``RejectMessage``.
    """
    try:
        yield
    except DBAPIError as error:
        raise _translate(error) from error
    except (OverflowError, UnicodeEncodeError) as error:
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
    state = getattr(error.orig, "sqlstate", None) or _guess_sqlstate(detail)
    if state.startswith(_DATA_SQLSTATES):
        return RejectMessage("store_rejected", f"ledger: {state} {detail}")
    if state.startswith(_CONFIGURATION_SQLSTATES):
        return ConfigurationError("DATABASE_URL", detail)
    return LedgerUnavailable("ledger", detail)


def _guess_sqlstate(detail: str) -> str:
    # libpq reports a log-in that is refused while connecting as text only.
    refused = "password authentication failed" in detail or "no password supplied" in detail
    missing = "does not exist" in detail and "FATAL" in detail
    return "28000" if refused or missing else "08006"


def _translate_sqlite(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ConfigurationError("DATABASE_URL", f"the SQLite file is damaged: {error}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ConfigurationError("DATABASE_URL", f"the SQLite file cannot be written: {error}")
    if code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG):
        return RejectMessage("store_rejected", f"ledger: {error}")
    return LedgerUnavailable("ledger", str(error))
