"""Which names a message may be saved under, by what it says of itself."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Protocol

from product_consumer.models import Message
from product_consumer.streams.collect.file_names import (
    MAX_NAME_BYTES,
    safe_id,
    safe_name,
    with_mark,
)
from product_consumer.streams.content import picture_extension
from product_consumer.streams.headers import FILE_NAME, WORD
from product_consumer.streams.records import read_text

_DIGEST_LENGTHS = (8, 16, 64)
_PICTURE_DIGEST_CHARACTERS = 16
_MAX_ID_BYTES = MAX_NAME_BYTES - len("image_.tiff")
# More digits would be no number of ours.
_NUMBERED = re.compile(r"word_([0-9]{1,15})\.txt")


class Naming(Protocol):
    """How the messages of one stream become files. Any thread may call it."""

    def check(self, message: Message) -> None:
        """Raise ``RejectMessage`` for a body that is not of this stream."""
        ...

    def names(self, message: Message, data: bytes) -> Iterable[str]:
        """Return the names to try, the best first; where the message is repeatable, they may be
        tried several times.
        """
        ...

    def is_repeatable(self, message: Message) -> bool:
        """Return whether the same message names its file the same way each time."""
        ...


class PictureNaming:
    """Header ``filename``; else ``image_<message id>``; else ``image_<digest>``, by content."""

    def check(self, message: Message) -> None:
        """Accept everything: what is no picture is kept as ``.bin``."""

    def names(self, message: Message, data: bytes) -> Iterable[str]:
        digest = hashlib.sha256(data).hexdigest()
        extension = picture_extension(data)
        plain = f"image_{digest[:_PICTURE_DIGEST_CHARACTERS]}.{extension}"
        chosen = _file_name(message)
        if not chosen:
            message_id = _id(message)
            chosen = f"image_{message_id}.{extension}" if message_id else plain
        return [*_marked(chosen, digest), *_marked(plain, digest)]

    def is_repeatable(self, message: Message) -> bool:
        return True


class TextNaming:
    """Header ``filename``; else ``word_<message id>.txt``; else ``word_<n>.txt``.

    ``n`` goes on after the highest in ``existing``, since two equal words are two words. A word of
    a file (header ``word``) is not the file that its ``filename`` names.
    """

    def __init__(self, existing: Iterable[str]) -> None:
        numbers = (found[1] for name in existing if (found := _NUMBERED.fullmatch(name)))
        self._next = max(map(int, numbers), default=0) + 1
        self._lock = Lock()

    def check(self, message: Message) -> None:
        """Raise ``InvalidMessage`` for what is not text in UTF-8."""
        read_text(message.body, message.envelope)

    def names(self, message: Message, data: bytes) -> Iterable[str]:
        chosen = self._chosen(message)
        if not chosen:
            return self._numbered()
        digest = hashlib.sha256(data).hexdigest()
        return [*_marked(chosen, digest), f"word_{digest}.txt"]

    def is_repeatable(self, message: Message) -> bool:
        return bool(self._chosen(message))

    def _chosen(self, message: Message) -> str:
        is_word = isinstance(message.envelope.headers.get(WORD), int)
        file_name = "" if is_word else _file_name(message)
        message_id = _id(message)
        return file_name or (f"word_{message_id}.txt" if message_id else "")

    def _numbered(self) -> Iterator[str]:
        while True:
            with self._lock:
                number = self._next
                self._next += 1
            yield f"word_{number}.txt"


def _file_name(message: Message) -> str:
    value = message.envelope.headers.get(FILE_NAME)
    return safe_name(value) if isinstance(value, str) else ""


def _id(message: Message) -> str:
    return safe_id(message.envelope.message_id, _MAX_ID_BYTES)


def _marked(name: str, digest: str) -> list[str]:
    return [name, *(with_mark(name, digest[:length]) for length in _DIGEST_LENGTHS)]
