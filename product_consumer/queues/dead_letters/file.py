"""Rejected messages in ``rejected.jsonl``, which workers append to at any time.

The file is never rewritten: a worker that opened it a moment before a replacement would add its
line to the old file, and that message would be lost. Which lines were redriven stands in a file
beside it, ``rejected.redriven``. Both may be moved away once every line was redriven.
"""

import base64
import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from product_consumer.errors import QueueUnavailable
from product_consumer.messages.times import from_microseconds
from product_consumer.models import Message
from product_consumer.queues.dead_letters.redrive import (
    MAX_HELD_BYTES,
    Collected,
    IsStopped,
    RejectedMessage,
    Wanted,
    chosen,
    grouped,
)
from product_consumer.queues.reject_log import ends_with_newline

# A body of 1 MiB in which every byte is an escape of six, and its attributes.
_MAX_LINE_BYTES = 8 * 1024 * 1024

Body = str | bytes


class RejectedFile:
    """Implements ``DeadLetters`` on the file of a ``RejectLog``.

    Reading takes no lock; two redrives at a time are refused with ``QueueUnavailable``.
    """

    def __init__(self, path: Path) -> None:
        self.label = path.name
        self._path = path
        self._marks_path = path.with_suffix(".redriven")
        self._marks: int | None = None
        self._redriven: set[str] = set()

    def collect(self, wanted: Wanted, limit: int, is_stopped: IsStopped) -> Collected:
        redriven = _read_keys(self._marks_path)
        copies: list[Message] = []
        held_bytes = unreadable_count = 0
        is_complete = True
        for line in _lines(self._path):
            copy = _as_message(line)
            unreadable_count += copy is None
            if copy is None or RejectedMessage((copy,)).key in redriven:
                continue
            if len(copies) >= limit or held_bytes >= MAX_HELD_BYTES or is_stopped():
                is_complete = False
                break
            copies.append(copy)
            held_bytes += len(line or b"")
        messages, others_count = chosen(grouped(copies), wanted)
        return Collected(messages, is_complete, others_count, unreadable_count)

    def attributes_by_body(self, bodies: Collection[Body]) -> dict[Body, Mapping[str, str]]:
        """Return the attributes of the last line for each of these bodies that has one."""
        found: dict[Body, Mapping[str, str]] = {}
        for line in _lines(self._path):
            copy = _as_message(line)
            if copy is not None and copy.body in bodies:
                found[copy.body] = copy.attributes
        return found

    def keep(self, messages: Sequence[RejectedMessage]) -> list[RejectedMessage]:
        if self._marks is None:
            self._marks = self._open_marks()
            self._redriven = _read_keys(self._marks_path)
        return [message for message in messages if message.key not in self._redriven]

    def remove(self, messages: Sequence[RejectedMessage]) -> None:
        if self._marks is None or not messages:
            return
        at = datetime.now(UTC).isoformat(timespec="seconds")
        lines = b"".join(f"{message.key} {at}\n".encode() for message in messages)
        try:
            if not ends_with_newline(self._marks):
                lines = b"\n" + lines
            written = 0
            while written < len(lines):
                written += os.write(self._marks, lines[written:])
            os.fsync(self._marks)
        except OSError as error:
            raise self._unavailable("cannot write", error) from error

    def close(self) -> None:
        if self._marks is not None:
            os.close(self._marks)
            self._marks = None

    def _open_marks(self) -> int:
        try:
            marks = os.open(self._marks_path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unavailable("cannot write", error) from error
        try:
            fcntl.flock(marks, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(marks)
            raise self._unavailable("another redrive is under way, it holds", error) from error
        return marks

    def _unavailable(self, problem: str, error: OSError) -> QueueUnavailable:
        name = self._marks_path.name
        return QueueUnavailable("reject log", f"{problem} {name}: {error.strerror}")


def _lines(path: Path) -> Iterator[bytes | None]:
    """Yield lines that are not blank; None in place of one that is too long to be ours."""
    try:
        with path.open("rb") as file:
            while line := file.readline(_MAX_LINE_BYTES):
                if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                    _skip_line(file)
                    yield None
                elif line.strip():
                    yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise QueueUnavailable(
            "reject log", f"cannot read {path.name}: {error.strerror}"
        ) from error


def _skip_line(file: BinaryIO) -> None:
    while (part := file.readline(_MAX_LINE_BYTES)) and not part.endswith(b"\n"):
        pass


def _read_keys(path: Path) -> set[str]:
    return {line.split()[0].decode("ascii", "replace") for line in _lines(path) if line}


def _as_message(line: bytes | None) -> Message | None:
    """The message that a line tells of; None for what a reject log never writes."""
    try:
        fields = json.loads(line or b"")
        body = _body(fields)
        sent_at = from_microseconds(int(fields["original_version"]))
        attributes = {name: text for name, text in fields.items() if isinstance(text, str)}
        return Message(
            message_id=attributes["message_id"],
            receipt_handle="",
            body=body,
            receive_count=1,
            sent_at=sent_at,
            attributes=attributes,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _body(fields: dict[str, Any]) -> str | bytes:
    if "body_base64" in fields:
        return base64.b64decode(fields.pop("body_base64"), validate=True)
    body = fields.pop("body")
    if not isinstance(body, str):
        raise TypeError("the body is not text")
    return body
