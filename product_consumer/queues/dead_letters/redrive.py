"""Rejected messages, wherever they wait, and their way back into the queue they came from."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from product_consumer.models import Message
from product_consumer.queues.base import Outgoing, Sender
from product_consumer.queues.rejections import handed_on

MOVED_BY_THE_QUEUE = "unknown (moved by the queue)"
"""Reason of a message that the queue took away by itself, which gives none."""
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Bodies held at a time, whatever the limit on their number is."""


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """One rejected message with all its copies, at least one.

    A crash between sending a copy and deleting the message leaves two copies that carry the same
    ``message_id``; their bodies are equal too, or they are not copies of one message.
    """

    copies: tuple[Message, ...]

    @property
    def id(self) -> str:
        """The id that the message had in its queue; one that the queue moved keeps it."""
        return self._said("message_id") or self.copies[0].message_id

    @property
    def body(self) -> str | bytes:
        return self.copies[0].body

    @property
    def reason(self) -> str:
        return self._said("reason") or MOVED_BY_THE_QUEUE

    @property
    def stage(self) -> str:
        """Empty when unknown, as are ``detail`` and ``source_queue``."""
        return self._said("stage")

    @property
    def detail(self) -> str:
        return self._said("detail")

    @property
    def source_queue(self) -> str:
        return self._said("source_queue")

    @property
    def receive_count(self) -> int:
        """Deliveries before it was rejected; of a moved message, all there were, this one too."""
        said = self._said("receive_count")
        return int(said) if _COUNT.fullmatch(said) else self.copies[0].receive_count

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

    def _said(self, name: str) -> str:
        """An attribute of our own copy; a producer's attributes on a moved message are not ours."""
        attributes = self.copies[0].attributes
        return attributes.get(name, "") if attributes.get("reason") else ""


Wanted = Callable[[RejectedMessage], bool]
IsStopped = Callable[[], bool]
"""Asked between two calls; true ends the work early."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What was found: the wanted messages, oldest first."""

    messages: list[RejectedMessage]
    is_complete: bool
    """False when a limit or a stop ended the search: more may wait."""
    others_count: int = 0
    """Messages that were looked at and are not wanted."""
    unreadable_count: int = 0
    """Lines of a file that are not a rejected message; they are left alone."""


class DeadLetters(Protocol):
    """A place where rejected messages wait. Every method raises ``QueueUnavailable``."""

    label: str

    def collect(self, wanted: Wanted, limit: int, is_stopped: IsStopped) -> Collected:
        """Look at up to ``limit`` copies, at most ``MAX_HELD_BYTES`` of bodies; called once."""
        ...

    def keep(self, messages: Sequence[RejectedMessage]) -> list[RejectedMessage]:
        """Return those of the collected messages that may be redriven now: nobody else has them."""
        ...

    def remove(self, messages: Sequence[RejectedMessage]) -> None:
        """Take away all copies of messages that were redriven."""
        ...

    def close(self) -> None:
        """Give back whatever was not removed; called once, also after an error."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What became of the messages of one batch."""

    redriven_count: int
    failed: list[tuple[str, str]]
    """Id of each message that could not be sent, and why; it stays where it was."""


def redrive(
    place: DeadLetters, messages: Sequence[RejectedMessage], sender: Sender, is_stopped: IsStopped
) -> Iterator[Step]:
    """Send messages back, a batch at a time, and remove those whose sending was confirmed.

    The body goes byte for byte, with ``original_version``, which orders it among others as when it
    was first sent, ``first_sent`` and ``original_message_id``. A producer's own attributes, which
    no worker reads, are not sent. A crash between sending and removing leaves a message in both
    places; redriven again it is a duplicate, which changes nothing.
    """
    for start in range(0, len(messages), sender.batch_size):
        if is_stopped():
            return
        kept = place.keep(messages[start : start + sender.batch_size])
        codes = sender.send([_outgoing(each) for each in kept])
        place.remove([each for position, each in enumerate(kept) if position not in codes])
        failed = [(kept[position].id, code) for position, code in codes.items()]
        yield Step(len(kept) - len(codes), failed)


def grouped(copies: Iterable[Message]) -> list[RejectedMessage]:
    """Return the messages of these copies, in the order of the first copies."""
    groups: dict[str, list[Message]] = {}
    for copy in copies:
        groups.setdefault(RejectedMessage((copy,)).key, []).append(copy)
    return [RejectedMessage(tuple(group)) for group in groups.values()]


def chosen(found: Iterable[RejectedMessage], wanted: Wanted) -> tuple[list[RejectedMessage], int]:
    """Return the wanted messages, oldest first, and how many the others are."""
    messages = list(found)
    selected = [message for message in messages if wanted(message)]
    selected.sort(key=lambda message: int(message.original_version))
    return selected, len(messages) - len(selected)


def _outgoing(message: RejectedMessage) -> Outgoing:
    origin = handed_on(message.copies[0]) | {"original_message_id": message.id}
    return Outgoing(message.body, origin)
