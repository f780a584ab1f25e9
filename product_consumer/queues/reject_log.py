"""``rejected.jsonl``: where rejected messages wait when no dead-letter queue can take them."""

import base64
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from product_consumer.errors import QueueUnavailable


class RejectLog:
    """A file with one line of JSON per rejected message, created with its directory when needed.

    Threads and processes may share it: a line is one ``O_APPEND`` write under a file lock. The file
    is opened for each line, so it may be moved away at any time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()

    def append(self, attributes: Mapping[str, str], body: str | bytes) -> None:
        """Write a line with ``attributes`` and ``body``; it is on disk when this returns.

        Bytes that are not UTF-8 are written as ``body_base64`` in place of ``body``. Raises
        ``QueueUnavailable`` when the line cannot be written; the message must stay queued then.
        """
        # ASCII only: lone surrogates survive, and no Unicode line break can split a line.
        line = json.dumps({**attributes, **_body_fields(body)}).encode("ascii") + b"\n"
        try:
            with self._lock:
                self._append_line(line)
        except OSError as error:
            raise QueueUnavailable(
                "reject log", f"cannot write {self.path.name}: {error.strerror}"
            ) from error

    def _append_line(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Bodies may hold what producers consider private: readable by the owner only.
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # Until another process's line is whole, the end of the file says nothing.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not ends_with_newline(descriptor):
                line = b"\n" + line
            written = os.write(descriptor, line)
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def ends_with_newline(descriptor: int) -> bool:
    """False after a write that a full disk or a power cut ended half-way."""
    if os.lseek(descriptor, 0, os.SEEK_END) == 0:
        return True
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1) == b"\n"


def _body_fields(body: str | bytes) -> dict[str, str]:
    if isinstance(body, str):
        return {"body": body}
    try:
        return {"body": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode("ascii")}
