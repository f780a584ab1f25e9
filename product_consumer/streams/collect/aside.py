"""A file on its way to its name: written aside, flushed to disk, then linked."""

import errno
import fcntl
import os
import re
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

HIDDEN = re.compile(r"\.receiving-[0-9a-f]{16}")
"""Names of files that a crash may leave. No safe name begins with a dot."""
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
REFUSED_NAMES = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG)
"""How a file system refuses a name; another may be taken."""


class Aside(ABC):
    """A file that has no name yet that anybody looks for."""

    def __init__(self, directory: int, descriptor: int) -> None:
        """``directory``, ``descriptor``: open; this object closes the second."""
        self._directory = directory
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Write everything and flush it to disk."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        os.fsync(self._descriptor)

    def link(self, name: str) -> bool:
        """Give the file its name; return False where that name is taken, or not allowed."""
        try:
            self._link(name)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in REFUSED_NAMES:
                return False
            raise
        return True

    def close(self) -> None:
        os.close(self._descriptor)

    @abstractmethod
    def _link(self, name: str) -> None: ...


class UnnamedFile(Aside):
    """A file without any name: it is gone with the last process that has it open."""

    def __init__(self, directory: int) -> None:
        flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
        super().__init__(directory, os.open(".", flags, 0o666, dir_fd=directory))

    def _link(self, name: str) -> None:
        source = f"/proc/self/fd/{self._descriptor}"
        os.link(source, name, dst_dir_fd=self._directory, follow_symlinks=True)


class HiddenFile(Aside):
    """A file with a hidden name and a lock."""

    def __init__(self, directory: int) -> None:
        self._name = _hidden_name()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        super().__init__(directory, os.open(self._name, flags, 0o666, dir_fd=directory))
        # Another process that starts now may have removed it before it was locked: the link fails
        # then, and the file is written again.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def close(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._directory)
        super().close()

    def _link(self, name: str) -> None:
        directory = self._directory
        os.link(self._name, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)


def try_link(kind: type[UnnamedFile] | type[HiddenFile], directory: int) -> None:
    """Make a file and give it a name for a moment; raises ``OSError`` where that is impossible."""
    name = _hidden_name()
    aside = kind(directory)
    try:
        if aside.link(name):
            os.unlink(name, dir_fd=directory)
    finally:
        aside.close()


def remove_hidden(name: str, directory: int) -> None:
    """Remove a file that a crash left; one that a living process holds stays."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):
        file = os.open(name, flags, dir_fd=directory)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=directory)
        finally:
            os.close(file)


def sync_directory(path: Path) -> None:
    """Flush the names in a directory to disk; raises ``OSError``."""
    descriptor = os.open(path, OPEN_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hidden_name() -> str:
    return f".receiving-{token_hex(8)}"
