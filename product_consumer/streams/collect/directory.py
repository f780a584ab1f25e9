"""A directory for saved files: each is whole or absent, none goes through a link or over another.

A file is written aside, flushed to disk, and linked to its name, which fails where anything has
that name. Where the system can, it is written without a name (``O_TMPFILE``), so that a crash
leaves nothing. Elsewhere it has a name of its own and a lock; the next start removes what no living
process holds.
"""

import errno
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from product_consumer.errors import ConfigurationError, Unavailable
from product_consumer.streams.collect.aside import (
    HIDDEN,
    OPEN_DIRECTORY,
    REFUSED_NAMES,
    Aside,
    HiddenFile,
    UnnamedFile,
    remove_hidden,
    sync_directory,
    try_link,
)

DEPENDENCY = "output directory"
WRITERS = 8
"""Files that are written at the same time."""

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1024 * 1024
# A FIFO would block without O_NONBLOCK, and a link must not lead anywhere.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# How a name answers that is taken by something which is no file of ours.
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EISDIR, errno.ENODEV, errno.EPERM)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
# No wait mends these.
_FOR_GOOD = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EROFS, errno.ELOOP),
    *REFUSED_NAMES,
    *_NO_LINKS,
)


_Kind = type[UnnamedFile] | type[HiddenFile]


class _At(Enum):
    """What has a name already."""

    NOTHING = auto()
    SAME = auto()
    """A file with the same bytes."""
    OTHER = auto()


@dataclass(slots=True, eq=False)
class NewFile:
    """A file to save: under the first of ``names`` that is free. For one thread.

    ``names`` are safe names. ``same_is_saved``: a file that has one of the names and the same bytes
    stands for this one.
    """

    names: Iterable[str]
    data: bytes = field(repr=False)
    same_is_saved: bool = True
    name: str = ""
    """The name that it has; empty until it is saved."""
    is_new: bool = True
    """False where the same bytes had this name before."""


class OutputDirectory:
    """An open directory. Thread-safe; several processes may save into it, too.

    It is made when it is missing. Raises ``ConfigurationError``, which names ``setting``, for a
    path that cannot be used, and ``OSError`` for what may pass. Every method but ``close`` raises
    ``Unavailable`` while the file system refuses it.
    """

    def __init__(self, path: Path, setting: str) -> None:
        self.path = path
        self._kind: _Kind | None = None
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        with _refused(path, setting):
            self._descriptor = _open(path)
        try:
            for name in filter(HIDDEN.fullmatch, list(self.names())):
                remove_hidden(name, self._descriptor)
            with _refused(path, setting):
                self._choose()
        except BaseException:
            self.close()
            raise

    def save(self, files: Sequence[NewFile]) -> None:
        """Save files, named in their order; they are on disk when this returns, their names not
        yet.

        What is saved already stays, so that a call which was refused may be made again.
        """
        with _told(), ExitStack() as closing:
            for file in files:
                self._find(file)
            missing = [file for file in files if not file.name]
            asides = self._write_all([file.data for file in missing])
            for aside in asides:
                closing.callback(aside.close)
            for file, aside in zip(missing, asides, strict=True):
                self._name(file, aside)

    def sync(self) -> None:
        """Flush the names of all files that were saved: they are on disk when this returns."""
        with _told():
            os.fsync(self._descriptor)

    def probe(self) -> None:
        """Raise ``Unavailable`` while a file could not be saved."""
        with _told():
            if os.fstat(self._descriptor).st_nlink == 0:
                self._reopen()
            # As much as a page: an empty file would fit on a full disk.
            self._write(bytes(4096)).close()

    def names(self) -> Iterator[str]:
        """Yield every name in the directory."""
        with _told(), os.scandir(self._descriptor) as entries:
            for entry in entries:
                yield entry.name

    def close(self) -> None:
        """Close the directory; called once, after the last other call."""
        self._writers.shutdown()
        os.close(self._descriptor)

    def _find(self, file: NewFile) -> None:
        """Recognise a file that has one of its names already."""
        if file.name or not file.same_is_saved:
            return
        for name in file.names:
            found = self._look(name, file.data)
            if found is _At.SAME:
                file.name, file.is_new = name, False
            if found is not _At.OTHER:
                return

    def _name(self, file: NewFile, aside: Aside) -> None:
        for name in file.names:
            if aside.link(name):
                file.name = name
                return
            if file.same_is_saved and self._look(name, file.data) is _At.SAME:
                file.name, file.is_new = name, False
                return
        raise Unavailable(DEPENDENCY, "no name is free")

    def _write_all(self, bodies: Sequence[bytes]) -> list[Aside]:
        """Write files side by side: the disk flushes several in the time of one."""
        if len(bodies) == 1:
            return [self._write(bodies[0])]
        writing = [self._writers.submit(self._write, data) for data in bodies]
        wait(writing)
        errors = [error for future in writing if (error := future.exception()) is not None]
        asides = [future.result() for future in writing if future.exception() is None]
        if not errors:
            return asides
        for aside in asides:
            aside.close()
        raise errors[0]

    def _write(self, data: bytes) -> Aside:
        aside = (self._kind or self._choose())(self._descriptor)
        try:
            aside.write(data)
        except BaseException:
            aside.close()
            raise
        return aside

    def _look(self, name: str, data: bytes) -> _At:
        try:
            file = os.open(name, _OPEN_FILE, dir_fd=self._descriptor)
        except FileNotFoundError:
            return _At.NOTHING
        except OSError as error:
            if error.errno in (*_NO_FILE, *REFUSED_NAMES):
                return _At.OTHER
            raise
        try:
            return _At.SAME if _holds(file, data) else _At.OTHER
        finally:
            os.close(file)

    def _choose(self) -> _Kind:
        """Choose how files are written aside: try it, under a name that the next start removes."""
        kinds: tuple[_Kind, ...] = (
            (UnnamedFile, HiddenFile) if hasattr(os, "O_TMPFILE") else (HiddenFile,)
        )
        for kind in kinds:
            try:
                try_link(kind, self._descriptor)
            except OSError:
                if kind is kinds[-1]:
                    raise
            else:
                break
        self._kind = kind
        return kind

    def _reopen(self) -> None:
        """Make the directory again after somebody removed it."""
        log.warning("%s was removed: making it again", self.path)
        descriptor = _open(self.path)
        try:
            os.dup2(descriptor, self._descriptor, inheritable=False)
        finally:
            os.close(descriptor)


def _holds(file: int, data: bytes) -> bool:
    """Return whether an open file is a regular one with these bytes, and have them on disk then."""
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(data):
        return False
    start = 0
    while chunk := os.read(file, _CHUNK_BYTES):
        if data[start : start + len(chunk)] != chunk:
            return False
        start += len(chunk)
    # Another program may have written it.
    os.fsync(file)
    return start == len(data)


def _open(path: Path) -> int:
    """Open a directory, made where it is missing; its name is on disk then."""
    missing = [part for part in (path, *path.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
        sync_directory(part.parent)
    return os.open(path, OPEN_DIRECTORY)


@contextmanager
def _refused(path: Path, setting: str) -> Iterator[None]:
    """Turn what no wait mends into ``ConfigurationError``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FOR_GOOD:
            raise
        no_links = error.errno in _NO_LINKS
        problem = "the file system takes no hard links" if no_links else error.strerror
    except ValueError:
        problem = "has a NUL character"
    else:
        return
    raise ConfigurationError(setting, f"{path}: {problem}")


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the file system refuses into ``Unavailable``, without any path."""
    try:
        yield
    except OSError as error:
        raise Unavailable(DEPENDENCY, error.strerror or "cannot be written") from error
