"""Which file belongs to which queue and process, and how it is written: whole or not at all.

A process takes the first free place of its queue: ``anomaly-NAME.state``, ``anomaly-NAME.state.2``
and so on. A lock of the kernel keeps a place for one process. So each writes what it has learnt
from its own share, and none writes over another's. At a start, each reads the newest file of all.
"""

import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

from product_consumer.streams.anomaly.state import (
    MAX_STATE_BYTES,
    State,
    StateUnusable,
    decode,
    encode,
)

log = logging.getLogger(__name__)

MOST_PLACES = 64
_MOST_CHARACTERS = 100
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_HASHED = re.compile(r".*-[0-9a-f]{16}")
_OTHER_CHARACTERS = re.compile(r"[^A-Za-z0-9_.-]+")


def file_name(queue: str) -> str:
    """Return the name of a queue's file; two queues never share one.

    A name of letters, digits, ``_``, ``.`` and ``-`` stays as it is. Others are cleaned, and end
    with a digest of the whole name.
    """
    if _PLAIN.fullmatch(queue) and not _HASHED.fullmatch(queue):
        return f"anomaly-{queue}.state"
    digest = hashlib.sha256(queue.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    cleaned = _OTHER_CHARACTERS.sub("_", queue)[: _MOST_CHARACTERS - 20]
    return f"anomaly-{cleaned}-{digest}.state"


class StateFiles:
    """The files of one queue, and the place of this process among them. For one thread."""

    def __init__(self, directory: Path, queue: str) -> None:
        self._directory = directory
        self._queue = queue
        self._name = file_name(queue)
        self._lock = -1
        self._path: Path | None = None

    @property
    def path(self) -> Path | None:
        """The file of this process; None before ``open`` and where it has no place."""
        return self._path

    def open(self) -> None:
        """Take a place; raises ``OSError`` where the directory cannot be written."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for number in range(1, MOST_PLACES + 1):
            path = self._place(number)
            lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            except OSError:
                os.close(lock)
                raise
            else:
                self._lock, self._path = lock, path
                return
        raise OSError(f"{MOST_PLACES} other processes learn from this queue")

    def read(self, take: Callable[[State], None]) -> bool:
        """Hand the newest state that can be used to ``take``; False where there is none.

        ``take`` may raise ``StateUnusable``, too. Our own file is moved aside then.
        """
        for path in self._newest_first():
            try:
                take(self._read(path))
            except (StateUnusable, OSError) as error:
                self._leave(path, error)
            else:
                log.info("The detector goes on from %s", path.name)
                return True
        return False

    def write(self, state: State) -> None:
        """Replace the file of this process; raises ``OSError``."""
        if self._path is None:
            return
        beside = self._path.with_name(f"{self._path.name}.new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode(state))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Give the place back."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._path = None

    def _place(self, number: int) -> Path:
        return self._directory / (self._name if number == 1 else f"{self._name}.{number}")

    def _newest_first(self) -> list[Path]:
        found = []
        for number in range(1, MOST_PLACES + 1):
            path = self._place(number)
            if path.is_file():
                found.append((path.stat().st_mtime_ns, -number, path))
        return [path for _, _, path in sorted(found, reverse=True)]

    def _read(self, path: Path) -> State:
        if path.stat().st_size > MAX_STATE_BYTES:
            raise StateUnusable("it is too large")
        state = decode(path.read_bytes())
        if state.queue != self._queue:
            raise StateUnusable("it belongs to another queue")
        return state

    def _leave(self, path: Path, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        if path != self._path:
            log.warning("%s is not used: %s", path.name, reason)
            return
        aside = path.with_name(f"{path.name}.unusable")
        try:
            path.replace(aside)
        except OSError as failure:
            log.warning("%s is not used: %s; it stays: %s", path.name, reason, failure.strerror)
        else:
            log.warning("%s is not used: %s; it is %s now", path.name, reason, aside.name)
