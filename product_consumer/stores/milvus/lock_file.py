"""Files beside the embedded database whose kernel locks say who uses it and who serves it.

Only the standard library is imported: the server detaches itself by a fork after importing this.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from product_consumer.errors import StoreUnavailable

POLL_SECONDS = 0.02


class LockFile:
    """A file with a kernel lock; its content, if any, is one small JSON object.

    The lock ends with the process that holds it. Not thread-safe. Raises ``OSError`` where the file
    cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, kind: int) -> bool:
        """Take the lock (``LOCK_SH`` or ``LOCK_EX``) if it is free; False where it is not."""
        try:
            fcntl.flock(self._open(), kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the lock back and keep the file open."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def read(self) -> dict[str, Any]:
        """Return the content; empty where there is none or it is half written."""
        try:
            return dict(json.loads(os.pread(self._open(), 4096, 0)))
        except ValueError:
            return {}

    def write(self, content: dict[str, Any]) -> None:
        """Replace the content."""
        # In place: a renamed file would be another inode, and the lock is on this one.
        os.ftruncate(self._open(), 0)
        os.pwrite(self._open(), json.dumps(content).encode(), 0)

    def close(self) -> None:
        """Give the lock back and close the file, which stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._descriptor


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file beside the database: ``milvus.db.users`` for ``users``."""
    return path.with_name(f"{path.name}.{suffix}")


def wait_until(condition: Callable[[], bool], deadline: float) -> None:
    """Poll until the condition holds; raise ``StoreUnavailable`` at ``deadline`` (monotonic)."""
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise StoreUnavailable("milvus", "the embedded server did not answer in time")
        pause.wait(POLL_SECONDS)


@contextmanager
def exclusive(lock: LockFile, deadline: float) -> Iterator[None]:
    """Hold the lock alone during the block; raise ``StoreUnavailable`` at ``deadline``."""
    wait_until(lambda: lock.acquire(fcntl.LOCK_EX), deadline)
    try:
        yield
    finally:
        lock.close()
