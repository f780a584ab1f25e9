"""Files of a directory as messages: pictures, words, or whole texts."""

import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from PIL import Image

from product_consumer.errors import ConfigurationError
from product_consumer.models import Envelope
from product_consumer.queues.base import Outgoing
from product_consumer.streams.content import CONTENT_TYPES, UNKNOWN, picture_extension
from product_consumer.streams.headers import APP_ID, FILE_NAME, IMAGE_SIZE, WORD

MAX_FILE_BYTES = 128 * 1024 * 1024
"""The largest message that any version of RabbitMQ takes."""
RESCAN_SECONDS = 1.0
"""Pause of a loop over a directory in which it found nothing to send."""

Kind = Callable[[str, bytes], Iterator[Outgoing]]
"""What becomes of a file, by its name and bytes: ``picture``, ``words`` or ``whole_text``."""

log = logging.getLogger(__name__)

_ID_CHARACTERS = 32


class Directory:
    """The files that a producer sends. For one thread.

    Raises ``ConfigurationError``, which names ``setting``, where there is no such directory.
    ``left_out`` counts the files that could not be sent, each told by a warning.
    """

    def __init__(self, path: Path, setting: str) -> None:
        self.left_out = 0
        self._path = path
        try:
            self.file_count = len(self._files())
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else "has a NUL character"
            raise ConfigurationError(setting, f"{path}: {problem}") from None

    def messages(
        self,
        kind: Kind,
        stopping: Event,
        *,
        loop: bool = False,
    ) -> Iterator[Outgoing]:
        """Yield the messages of every file, in the order of their names.

        ``loop``: begin again until asked to stop.
        """
        while not stopping.is_set():
            sent = 0
            for path in self._files():
                for message in self._messages_of(path, kind):
                    sent += 1
                    yield message
            if not loop or (not sent and stopping.wait(RESCAN_SECONDS)):
                return

    def _files(self) -> list[Path]:
        return sorted(path for path in self._path.iterdir() if path.is_file())

    def _messages_of(self, path: Path, kind: Kind) -> Iterator[Outgoing]:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
            yield from kind(path.name, path.read_bytes())
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else str(error)
            log.warning("Left out %s: %s", path, problem)
            self.left_out += 1


def picture(name: str, data: bytes) -> Iterator[Outgoing]:
    """Yield the message of a picture: its bytes, and what is known of it."""
    headers: dict[str, object] = {}
    size = _image_size(data)
    if size is not None:
        headers[IMAGE_SIZE] = size
    content_type = CONTENT_TYPES[picture_extension(data)]
    yield _outgoing(name, data, content_type, _digest(name, data), headers)


def words(name: str, data: bytes) -> Iterator[Outgoing]:
    """Yield one message for each word of a text; raises ``ValueError`` for what is not UTF-8."""
    for position, word in enumerate(_text(data).split(), 1):
        message_id = _digest(name, position, word)
        yield _outgoing(name, word, "text/plain", message_id, {WORD: position})


def whole_text(name: str, data: bytes) -> Iterator[Outgoing]:
    """Yield the message of a whole text; raises ``ValueError`` for what is not UTF-8."""
    _text(data)
    yield _outgoing(name, data, "text/plain", _digest(name, data), {})


def _outgoing(
    name: str, body: str | bytes, content_type: str, message_id: str, headers: dict[str, object]
) -> Outgoing:
    shown_name = name.encode("utf-8", "replace").decode()
    envelope = Envelope(
        message_id=message_id,
        correlation_id=message_id,
        content_type=content_type,
        app_id=APP_ID,
        timestamp=datetime.now(UTC),
        headers={FILE_NAME: shown_name, **headers},
    )
    return Outgoing(body, {}, envelope)


def _digest(*parts: str | bytes | int) -> str:
    """Return an id that the same parts have at every run."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:_ID_CHARACTERS]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None


def _image_size(data: bytes) -> list[int] | None:
    """Return height, width and channels of a picture, from its header alone; None for others."""
    if picture_extension(data) == UNKNOWN:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return [image.height, image.width, len(image.getbands())]
    # Pillow raises nearly everything for a broken header; the picture is sent without its size.
    except Exception as error:
        log.debug("No size of a picture is known: %s", error)
        return None
