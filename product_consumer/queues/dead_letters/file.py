"""Rejected messages in ``rejected.jsonl``, which workers append to at any time.

The file is never rewritten: a worker that opened it a moment before a replacement would add its
line to the old file, and that message would be lost. A second file beside it,
``rejected.redriven``, has the keys of the lines that were redriven. Both may be moved away once
every line was redriven.
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
    Selection,
    grouped,
    selected,
)
from product_consumer.queues.reject_log import ends_with_newline

# A body of 1 MiB in which every byte is an escape of six, and its attributes.
_MAX_LINE_BYTES = 8 * 1024 * 1024

Body = str | bytes


class RejectedFile:
    """The rejected messages in the file of a ``RejectLog``; implements ``DeadLetters``.

    For one thread. Reading takes no lock; a second redrive at the same time is refused with
    ``QueueUnavailable``.
    """

    def __init__(self, path: Path) -> None:
        self.label = path.name
        self._path = path
        self._redriven_path = path.with_suffix(".redriven")
        self._redriven_descriptor: int | None = None
        self._redriven_keys: set[str] = set()

    def collect(self, is_selected: Selection, limit: int, is_stopped: IsStopped) -> Collected:
        redriven_keys = _read_keys(self._redriven_path)
        copies: list[Message] = []
        held_bytes = unreadable_count = 0
        is_complete = True
        for line in _lines(self._path):
            copy = _as_message(line)
            unreadable_count += copy is None
            if copy is None or RejectedMessage((copy,)).key in redriven_keys:
                continue
            if len(copies) >= limit or held_bytes >= MAX_HELD_BYTES or is_stopped():
                is_complete = False
                break
            copies.append(copy)
            held_bytes += len(line or b"")
        messages, others_count = selected(grouped(copies), is_selected)
        return Collected(messages, is_complete, others_count, unreadable_count)

    def attributes_by_body(self, bodies: Collection[Body]) -> dict[Body, Mapping[str, str]]:
        """Return the attributes of each body's last line; bodies without a line are left out."""
        attributes: dict[Body, Mapping[str, str]] = {}
        for line in _lines(self._path):
            copy = _as_message(line)
            if copy is not None and copy.body in bodies:
                attributes[copy.body] = copy.attributes
        return attributes

    def keep(self, messages: Sequence[RejectedMessage]) -> list[RejectedMessage]:
        if self._redriven_descriptor is None:
            self._redriven_descriptor = self._open_redriven_file()
            self._redriven_keys = _read_keys(self._redriven_path)
        return [message for message in messages if message.key not in self._redriven_keys]

    def remove(self, messages: Sequence[RejectedMessage]) -> None:
        if self._redriven_descriptor is None or not messages:
            return
        at = datetime.now(UTC).isoformat(timespec="seconds")
        lines = b"".join(f"{message.key} {at}\n".encode() for message in messages)
        try:
            if not ends_with_newline(self._redriven_descriptor):
                lines = b"\n" + lines
            written = 0
            while written < len(lines):
                written += os.write(self._redriven_descriptor, lines[written:])
            os.fsync(self._redriven_descriptor)
        except OSError as error:
            raise self._unavailable("cannot write", error) from error

    def close(self) -> None:
        if self._redriven_descriptor is not None:
            os.close(self._redriven_descriptor)
            self._redriven_descriptor = None

    def _open_redriven_file(self) -> int:
        try:
            descriptor = os.open(self._redriven_path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unavailable("cannot write", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise self._unavailable("another redrive is under way, it holds", error) from error
        return descriptor

    def _unavailable(self, problem: str, error: OSError) -> QueueUnavailable:
        name = self._redriven_path.name
        return QueueUnavailable("reject log", f"{problem} {name}: {error.strerror}")


def _lines(path: Path) -> Iterator[bytes | None]:
    """Yield lines that are not blank; None in place of a line that is too long to be ours."""
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
    while (piece := file.readline(_MAX_LINE_BYTES)) and not piece.endswith(b"\n"):
        pass


def _read_keys(path: Path) -> set[str]:
    return {line.split()[0].decode("ascii", "replace") for line in _lines(path) if line}


def _as_message(line: bytes | None) -> Message | None:
    """Return the message of a line; None for a line that a reject log never writes."""
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
