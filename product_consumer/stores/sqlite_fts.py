"""Products in an SQLite file, found by the words of their names, where no server is configured."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

from product_consumer.errors import (
    ConfigurationError,
    ProductConsumerError,
    RejectMessage,
    StoreUnavailable,
)
from product_consumer.models import Hit, ProductRow, StoreIdentity
from product_consumer.money import price_as_double
from product_consumer.stores.base import MAX_SEARCH_LIMIT
from product_consumer.stores.text_folding import MAX_QUERY_CHARACTERS, words

_SCHEMA_VERSION = "1"
# The tokenizer "ascii" splits at ASCII only. Names are stored as folded words joined by spaces, so
# the words stay as they are, whatever Unicode version SQLite was built with.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """
    CREATE TABLE IF NOT EXISTS products (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        product_name TEXT NOT NULL,
        store_url TEXT,
        price REAL,
        currency TEXT,
        rating REAL,
        reviews_count INTEGER,
        last_update TEXT NOT NULL,
        image_url TEXT NOT NULL
    )
    """,
    "CREATE VIRTUAL TABLE IF NOT EXISTS product_words USING fts5(name, tokenize = 'ascii')",
)
# A deleted product keeps its row and revision: an older write that arrives later still loses.
_UPSERT = """
    INSERT INTO products (id, revision, deleted, product_name, store_url, price, currency, rating,
                          reviews_count, last_update, image_url)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        revision = excluded.revision, deleted = excluded.deleted,
        product_name = excluded.product_name, store_url = excluded.store_url,
        price = excluded.price, currency = excluded.currency, rating = excluded.rating,
        reviews_count = excluded.reviews_count, last_update = excluded.last_update,
        image_url = excluded.image_url
    WHERE excluded.revision >= products.revision
"""
_SEARCH = """
    SELECT products.id, -product_words.rank, products.revision
    FROM product_words JOIN products ON products.number = product_words.rowid
    WHERE product_words MATCH ? ORDER BY product_words.rank LIMIT ?
"""
# Result codes that pass with time; with any other the file itself is unusable.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PROTOCOL,
}
# Virtual machine instructions between two checks of the deadline.
_STEPS_PER_DEADLINE_CHECK = 10_000


class SqliteSearchStore:
    """A ``KeywordStore`` in one file that the processes of one machine share.

    It uses FTS5 with BM25 ranking. One connection serves all threads of a process, one at a time.
    SQLite has one writer anyway; threads that wait for a lock are not starved, as threads that poll
    a busy file are. Thread-safe; raises as ``ProductStore`` says.
    """

    name = "sqlite_search"

    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._deadline = 0.0

    def setup(self, identity: StoreIdentity) -> None:
        """Create the tables, or verify them. Only the ledger must be the same: words suit every
        model.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError("DATA_DIR", f"cannot be created: {error}") from error
        with self._transaction() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.executemany(
                "INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)",
                [("schema_version", _SCHEMA_VERSION), ("ledger_id", identity.ledger_id)],
            )
            meta = dict(connection.execute("SELECT key, value FROM meta"))
        if meta["schema_version"] != _SCHEMA_VERSION:
            raise ConfigurationError(
                "DATA_DIR",
                f"{self._path} has schema version {meta['schema_version']}, not {_SCHEMA_VERSION}",
            )
        if meta["ledger_id"] != identity.ledger_id:
            raise ConfigurationError(
                "DATABASE_URL",
                f"{self._path} belongs to ledger {meta['ledger_id']}, "
                f"this is ledger {identity.ledger_id}",
            )

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """Write all rows in one transaction; they are on disk when it returns."""
        failures: dict[str, ProductConsumerError] = {}
        if not rows:
            return failures
        with self._transaction() as connection:
            for row in rows:
                try:
                    _write_row(connection, row)
                except (OverflowError, UnicodeEncodeError, sqlite3.DataError) as error:
                    failures[row.id] = RejectMessage("store_rejected", str(error)[:300])
        return failures

    def read_revisions(self, product_ids: Sequence[str]) -> dict[str, int]:
        """Return the revisions, each read by its primary key."""
        query = "SELECT revision FROM products WHERE id = ? AND NOT deleted"
        with self._connected() as connection:
            rows = {key: connection.execute(query, (key,)).fetchone() for key in product_ids}
        return {key: row[0] for key, row in rows.items() if row is not None}

    def search_keywords(self, text: str, limit: int) -> list[Hit]:
        """Return products whose names have any of the words, ranked by BM25."""
        query_words = dict.fromkeys(words(text[:MAX_QUERY_CHARACTERS]))
        size = min(limit, MAX_SEARCH_LIMIT)
        if not query_words or size < 1:
            return []
        # Words hold letters and digits only; in quotes they are never FTS5's operators.
        query = " OR ".join(f'"{word}"' for word in query_words)
        with self._connected() as connection:
            return [Hit(*row) for row in connection.execute(_SEARCH, (query, size))]

    def describe(self) -> str:
        """Return the file, SQLite's version and the number of products."""
        with self._connected() as connection:
            query = "SELECT count(*) FROM products WHERE NOT deleted"
            count = connection.execute(query).fetchone()[0]
        return f"{self._path}, SQLite {sqlite3.sqlite_version}, {count} products"

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction: all writes of the block are kept, or none."""
        with self._connected() as connection:
            # IMMEDIATE: a lock taken later within the transaction would not wait for its turn.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite rolls back by itself when the disk is full.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone; SQLite's errors are translated."""
        if not self._lock.acquire(timeout=self._timeout_seconds):
            raise StoreUnavailable(self.name, "other threads hold it for too long")
        try:
            self._deadline = time.monotonic() + self._timeout_seconds
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection
        except sqlite3.Error as error:
            raise self._translated(error) from error
        finally:
            self._lock.release()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._use_write_ahead_log(connection)
            # FULL: what write() has confirmed survives a power cut.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        connection.set_progress_handler(
            lambda: time.monotonic() > self._deadline, _STEPS_PER_DEADLINE_CHECK
        )
        return connection

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        # When several processes open a new file, SQLite tells all but one "busy" without a wait.
        pause = threading.Event()
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > self._deadline:
                    raise
                pause.wait(0.02)
            else:
                return

    def _translated(self, error: sqlite3.Error) -> ProductConsumerError:
        if _code(error) in _PASSING:
            return StoreUnavailable(self.name, f"{self._path}: {error}")
        return ConfigurationError("DATA_DIR", f"{self._path} cannot be used: {error}")


def _write_row(connection: sqlite3.Connection, row: ProductRow) -> None:
    if connection.execute(_UPSERT, _values(row)).rowcount == 0:
        return
    query = "SELECT number FROM products WHERE id = ?"
    (number,) = connection.execute(query, (row.id,)).fetchone()
    connection.execute("DELETE FROM product_words WHERE rowid = ?", (number,))
    if not row.deleted:
        folded = " ".join(words(row.name))
        connection.execute(
            "INSERT INTO product_words (rowid, name) VALUES (?, ?)", (number, folded)
        )


def _values(row: ProductRow) -> tuple[object, ...]:
    return (
        row.id,
        row.revision,
        row.deleted,
        row.name,
        row.store_url,
        price_as_double(row.price_minor, row.currency),
        row.currency,
        row.rating,
        row.reviews_count,
        row.last_update.astimezone(UTC).isoformat(),
        row.image_url,
    )


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, without the bits that say which I/O error it was."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
