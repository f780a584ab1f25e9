"""Rejected messages, wherever they wait, and how they go back to their queue."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from product_consumer.models import Message
from product_consumer.queues.base import Outgoing, Sender
from product_consumer.queues.rejections import ATTRIBUTE_NAMES, MOVED_BECAUSE, handed_on

MOVED_BY_THE_QUEUE = "unknown (moved by the queue)"
"""The reason of a message that the queue moved by itself without giving one."""
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Bodies held at a time, whatever limit on their number is set."""


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A rejected message with all its copies, at least one.

    A crash between sending a copy and deleting the message leads to a second copy. Copies of one
    message have the same ``message_id`` and the same body.
    """

    copies: tuple[Message, ...]

    @property
    def id(self) -> str:
        """The id that the message had in its queue; a message that the queue moved keeps its id."""
        return self._attribute("message_id") or self.copies[0].message_id

    @property
    def body(self) -> str | bytes:
        return self.copies[0].body

    @property
    def reason(self) -> str:
        moved_because = self.copies[0].attributes.get(MOVED_BECAUSE)
        return self._attribute("reason") or moved_because or MOVED_BY_THE_QUEUE

    @property
    def stage(self) -> str:
        """Empty when unknown, as are ``detail`` and ``source_queue``."""
        return self._attribute("stage")

    @property
    def detail(self) -> str:
        return self._attribute("detail")

    @property
    def source_queue(self) -> str:
        return self._attribute("source_queue")

    @property
    def receive_count(self) -> int:
        """Deliveries before it was rejected; for a message that the queue moved, all deliveries."""
        count = self._attribute("receive_count")
        return int(count) if _COUNT.fullmatch(count) else self.copies[0].receive_count

    @property
    def first_sent(self) -> str:
        """ISO 8601, UTC."""
        return handed_on(self.copies[0])["first_sent"]

    @property
    def original_version(self) -> str:
        """Digits: epoch microseconds."""
        return handed_on(self.copies[0])["original_version"]

    @property
    def key(self) -> str:
        """Equal for copies of one message: SHA-256 of its id and its body, in hexadecimal."""
        body = self.body
        content = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(self.id.encode("utf-8", "surrogatepass"))
        digest.update(b"\0" + content)
        return digest.hexdigest()

    def _attribute(self, name: str) -> str:
        """Return an attribute that a worker wrote; a message that the queue moved has none."""
        attributes = self.copies[0].attributes
        return attributes.get(name, "") if attributes.get("reason") else ""


Selection = Callable[[RejectedMessage], bool]
"""Tells whether a message is selected."""
IsStopped = Callable[[], bool]
"""Called between two calls of the queue; true ends the work early."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a reading found: the selected messages, oldest first."""

    messages: list[RejectedMessage]
    is_complete: bool
    """False when a limit or a stop ended the search: more may wait."""
    others_count: int = 0
    """Messages that were read and are not selected."""
    unreadable_count: int = 0
    """Lines of a file that are not a rejected message; they are left alone."""


class DeadLetters(Protocol):
    """A place where rejected messages wait; for one thread. Methods raise ``QueueUnavailable``."""

    label: str

    def collect(self, is_selected: Selection, limit: int, is_stopped: IsStopped) -> Collected:
        """Read up to ``limit`` copies, at most ``MAX_HELD_BYTES`` of bodies; called once."""
        ...

    def keep(self, messages: Sequence[RejectedMessage]) -> list[RejectedMessage]:
        """Return those of the collected messages that may be redriven now: nobody else has them."""
        ...

    def remove(self, messages: Sequence[RejectedMessage]) -> None:
        """Delete all copies of messages that were redriven."""
        ...

    def close(self) -> None:
        """Release the messages that were not removed; called once, also after an error."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What became of the messages of one batch."""

    redriven_count: int
    failed: list[tuple[str, str]]
    """Id and error code of each message that could not be sent; it stays where it was."""


def redrive(
    dead_letters: DeadLetters,
    messages: Sequence[RejectedMessage],
    sender: Sender,
    is_stopped: IsStopped,
) -> Iterator[Step]:
    """Send messages back, a batch at a time, and remove those whose sending was confirmed.

    The body is sent byte for byte, with ``first_sent``, ``original_message_id`` and
    ``original_version``; the version orders the message as when it was first sent. A producer's own
    attributes, which no worker reads, go along where the queue carries an envelope. A crash between
    sending and removing leaves a message in both places; redriven again it is a duplicate, which
    changes nothing.
    """
    for start in range(0, len(messages), sender.batch_size):
        if is_stopped():
            return
        kept = dead_letters.keep(messages[start : start + sender.batch_size])
        codes = sender.send([_outgoing(message) for message in kept])
        dead_letters.remove(
            [message for position, message in enumerate(kept) if position not in codes]
        )
        failed = [(kept[position].id, code) for position, code in codes.items()]
        yield Step(len(kept) - len(codes), failed)


def grouped(copies: Iterable[Message]) -> list[RejectedMessage]:
    """Return the messages of these copies, in the order of the first copies."""
    groups: dict[str, list[Message]] = {}
    for copy in copies:
        groups.setdefault(RejectedMessage((copy,)).key, []).append(copy)
    return [RejectedMessage(tuple(group)) for group in groups.values()]


def selected(
    messages: Sequence[RejectedMessage], is_selected: Selection
) -> tuple[list[RejectedMessage], int]:
    """Return the selected messages, oldest first, and the number of the others."""
    selection = [message for message in messages if is_selected(message)]
    selection.sort(key=lambda message: int(message.original_version))
    return selection, len(messages) - len(selection)


def _outgoing(message: RejectedMessage) -> Outgoing:
    first = message.copies[0]
    origin = handed_on(first) | {"original_message_id": message.id}
    headers = first.envelope.headers.items()
    own = {name: value for name, value in headers if name not in ATTRIBUTE_NAMES}
    return Outgoing(message.body, origin, replace(first.envelope, headers=own))
