"""Where lines of records go: appended to a file and flushed to disk, or to standard output."""

import fcntl
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Protocol

from product_consumer.errors import ConfigurationError, FatalError, Unavailable
from product_consumer.queues.reject_log import ends_with_newline
from product_consumer.streams.collect.aside import sync_directory

DEPENDENCY = "output"

_OPEN = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC


class Lines(Protocol):
    """A place for lines. Thread-safe; every method raises ``Unavailable`` while it is refused."""

    @property
    def is_ascii(self) -> bool:
        """Whether other characters than those of ASCII would be lost."""
        ...

    def write(self, lines: Sequence[str]) -> None:
        """Write lines without their ends; they are kept when this returns."""
        ...

    def probe(self) -> None:
        """Raise while a line would be refused."""
        ...


class FileOfLines:
    """A file that lines are appended to, made when it is missing; processes may share it.

    It is opened for each write, so it may be moved away at any time. A line that a crash has cut
    stays as it is, and the next begins on a line of its own. Raises ``ConfigurationError``, which
    names ``setting``, for a path that cannot be used.
    """

    is_ascii = False

    def __init__(self, path: Path, setting: str) -> None:
        self._path = path
        self._lock = Lock()
        try:
            descriptor = self._open()
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            os.close(descriptor)
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else "has a NUL character"
            raise ConfigurationError(setting, f"{path}: {problem}") from None
        if not is_file:
            raise ConfigurationError(setting, f"{path}: needs a regular file")

    def write(self, lines: Sequence[str]) -> None:
        """Append lines in one write; they are on disk when this returns."""
        data = "".join(f"{line}\n" for line in lines).encode()
        with _told(), self._lock:
            descriptor = self._open()
            try:
                # Until another process's line is whole, the end of the file says nothing.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append(descriptor, data)
            finally:
                os.close(descriptor)

    def probe(self) -> None:
        """Raise while the file cannot be opened, or its disk is full."""
        with _told():
            os.close(self._open())
            # A user who may write to the file may not be allowed to make others beside it.
            with suppress(PermissionError), TemporaryFile(dir=self._path.parent) as aside:
                aside.write(bytes(4096))
                aside.flush()

    def _open(self) -> int:
        try:
            return os.open(self._path, _OPEN)
        except FileNotFoundError:
            descriptor = os.open(self._path, _OPEN | os.O_CREAT, 0o666)
        try:
            sync_directory(self._path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class StandardOutput:
    """The standard output of this process. Raises ``FatalError`` once nobody reads it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.is_ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"

    def write(self, lines: Sequence[str]) -> None:
        """Print lines; the reader, or the terminal, has them when this returns."""
        text = "".join(f"{line}\n" for line in lines)
        try:
            with _told(), self._lock:
                sys.stdout.write(text)
                sys.stdout.flush()
        except Unavailable as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise FatalError("nobody reads the standard output any more") from error
            raise

    def probe(self) -> None:
        """Raise while what was printed before cannot be written."""
        self.write(())


def _append(descriptor: int, data: bytes) -> None:
    """Append whole lines, or leave the file as it was."""
    if not ends_with_newline(descriptor):
        data = b"\n" + data
    size_bytes = os.fstat(descriptor).st_size
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size_bytes)
        raise
    os.fsync(descriptor)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(DEPENDENCY, error.strerror or "cannot be written") from error
