"""A pool of database connections with a budget, for all threads of a process.

SQLAlchemy's own pool keeps idle connections for ever. It fails when a server refuses one more,
although others of the same process will be free in a moment. And it lets a thread wait for ever for
a server that is frozen.
"""

import logging
import sqlite3
import threading
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import psycopg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from product_consumer.database.postgres import cut

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 30.0
"""Idle for longer, a connection is closed, so that another process can have one."""
MAY_TAKE: Final = "may_take_seconds"
"""Key in the ``info`` of a connection that may be in use for longer than usual: seconds."""
_TEST_SECONDS = 5.0
"""Idle for longer, a connection is tested before it is used: firewalls and restarts cut idle ones.
A test before every use would cost a round trip each."""
_REFUSED_SECONDS = 5.0
"""After the server has refused a connection, the process makes do with the others for so long."""
_WATCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Idle:
    record: ConnectionPoolEntry
    since: float


class BudgetPool(Pool):
    """At most ``pool_size`` connections; the one that was used last is used first. Thread-safe.

    A thread waits at most ``timeout`` seconds for a connection, whichever comes first: one that is
    returned, or a new one. Where there is no other, it opens one itself, and raises the server's
    error. A connection that is in use for too long is cut, so that its thread goes on.
    """

    def __init__(
        self, creator: Any, pool_size: int = 5, timeout: float = 30.0, **options: Any
    ) -> None:
        super().__init__(creator, **options)
        self._creating, self._options = creator, options
        self._size = pool_size
        self._wait_seconds = timeout
        # Each statement of a transaction has a timeout; rarely do two of them come near it.
        self._use_seconds = 2 * timeout + 20
        self._changed = threading.Condition()
        # The newest last, so the first has been idle for the longest.
        self._idle: list[_Idle] = []
        self._taken_at: dict[ConnectionPoolEntry, float] = {}
        # Connections that are idle, in use or being opened.
        self._count = 0
        # One is opened at a time: a server at its limit may refuse all of several attempts.
        self._is_opening = False
        self._opens_again_at = 0.0
        self._refusal: Exception | None = None
        # Connections that were opened before are closed when they are returned.
        self._kept_since = 0.0
        self._disposed = threading.Event()
        self._is_watched = False

    def dispose(self) -> None:
        """Close all connections: the idle ones now, the others when they are returned."""
        self._disposed.set()
        self._leave_all()

    def recreate(self) -> "BudgetPool":
        """Return a new, empty pool of the same kind."""
        return BudgetPool(
            self._creating,
            pool_size=self._size,
            timeout=self._wait_seconds,
            **(self._options | {"_dispatch": self.dispatch}),
        )

    def status(self) -> str:
        """Return one line about the connections."""
        with self._changed:
            return f"{self._count} of {self._size} connections are open, {len(self._idle)} idle"

    def _do_get(self) -> ConnectionPoolEntry:
        deadline = monotonic() + self._wait_seconds
        while True:
            idle = self._take(deadline)
            record = self._open() if idle is None else idle.record
            with self._changed:
                self._taken_at[record] = monotonic()
            if idle is None or monotonic() - idle.since < _TEST_SECONDS or self._works(record):
                return record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        now = monotonic()
        with self._changed:
            self._taken_at.pop(record, None)
            is_kept = (
                record.dbapi_connection is not None
                and record.info.get("opened_at", now) > self._kept_since
                and not self._disposed.is_set()
            )
            if is_kept:
                self._idle.append(_Idle(record, now))
                self._changed.notify()
        if not is_kept:
            self._close(record)

    def _invalidate(
        self,
        connection: PoolProxiedConnection,
        exception: BaseException | None = None,
        _checkin: bool = True,
    ) -> None:
        """Leave every connection that was opened before; SQLAlchemy calls it when one was cut."""
        if connection.info.get("opened_at", monotonic()) > self._kept_since:
            self._leave_all()
        if _checkin and connection.is_valid:
            connection.invalidate(exception)

    def _take(self, deadline: float) -> _Idle | None:
        """Return an idle connection, or None when the caller is to open one."""
        with self._changed:
            while not self._idle:
                now = monotonic()
                if self._may_open(now):
                    self._is_opening = True
                    self._count += 1
                    # While there are others, the caller waits for whichever comes first.
                    if self._count == 1 or not _start_thread(self._help, "database-open"):
                        return None
                if now >= deadline:
                    raise self._refusal or PoolTimeoutError(f"all {self._count} are in use")
                self._changed.wait(min(deadline - now, 1.0))
            return self._idle.pop()

    def _may_open(self, now: float) -> bool:
        is_time = self._count == 0 or now >= self._opens_again_at
        return is_time and self._count < self._size and not self._is_opening

    def _help(self) -> None:
        try:
            self._do_return_conn(self._open())
        except Exception as error:
            log.debug("no further connection: %s", error)

    def _open(self) -> ConnectionPoolEntry:
        opened_at, refusal = monotonic(), None
        try:
            record = self._create_connection()
        except BaseException as error:
            refusal = error
            raise
        finally:
            with self._changed:
                self._is_opening = False
                self._refusal = refusal if isinstance(refusal, Exception) else None
                if refusal is not None:
                    self._count -= 1
                    self._opens_again_at = monotonic() + _REFUSED_SECONDS
                elif not self._is_watched:
                    self._is_watched = _start_thread(self._watch, "database-watch")
                # Those that wait find out whether there is one to wait for.
                self._changed.notify_all()
        record.info["opened_at"] = opened_at
        return record

    def _works(self, record: ConnectionPoolEntry) -> bool:
        """Test an idle connection. When it was cut, so were those that were idle with it."""
        connection: Any = record.driver_connection
        record.info[MAY_TAKE] = self._wait_seconds
        try:
            connection.execute("SELECT 1")
        except (psycopg.Error, sqlite3.Error):
            self._leave_all()
            self._do_return_conn(record)
            return False
        finally:
            record.info.pop(MAY_TAKE, None)
        return True

    def _leave_all(self) -> None:
        with self._changed:
            self._kept_since = monotonic()
            self._opens_again_at = 0.0
            idle, self._idle = self._idle, []
        for each in idle:
            self._close(each.record)

    def _close(self, record: ConnectionPoolEntry) -> None:
        record.close()
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def _watch(self) -> None:
        """Close what is idle for too long, and cut what is in use for too long.

        The thread ends with the last connection.
        """
        while not self._disposed.wait(_WATCH_SECONDS):
            now = monotonic()
            with self._changed:
                if self._count == 0:
                    self._is_watched = False
                    return
                idle = [each for each in self._idle if now - each.since >= IDLE_SECONDS]
                del self._idle[: len(idle)]
                overdue = [
                    record
                    for record, taken_at in self._taken_at.items()
                    if now - taken_at > record.info.get(MAY_TAKE, self._use_seconds)
                ]
            for each in idle:
                self._close(each.record)
            for record in overdue:
                cut(record.driver_connection)


def _start_thread(target: Any, name: str) -> bool:
    try:
        threading.Thread(target=target, name=name, daemon=True).start()
    except RuntimeError:
        # The machine has no more threads.
        return False
    return True
