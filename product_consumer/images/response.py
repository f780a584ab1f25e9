"""One answer of an image server: taken in within limits, then judged for its message."""

import functools
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Final

from product_consumer.errors import ImageRejected, ImageUnavailable, ProductConsumerError

MAX_HEADER_BYTES: Final = 64 * 1024
"""Of one answer, interim answers and trailers included."""
MAX_RETRY_AFTER_SECONDS: Final = 900.0
MAX_VALIDATOR_CHARACTERS: Final = 512
MIN_SETTLED_SECONDS: Final = 2.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_NOT_THERE_YET = frozenset({403, 404, 410})
_PASSING = frozenset({408, 425, 429})
_MISSING_ATTEMPTS = 3
_EMPTY_ATTEMPTS = 3
# To read more of a redirect's or a failure's body costs more than a new connection.
_MAX_IGNORED_BYTES = 64 * 1024
# ``Date`` is the same in all answers of a second, and ``Last-Modified`` in many.
_REMEMBERED_DATES = 1024
_MAX_DATE_CHARACTERS = 100


class Response:
    """Status, headers and body as they arrive, header line by header line and chunk by chunk.

    ``status`` is 0 until a final answer begins. ``refusal`` says why reading was stopped, if it was
    for a reason that concerns the message. ``max_bytes`` bounds the body.
    """

    def __init__(self, max_bytes: int) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        # Gives its bytes out without a copy; a list of chunks could be of one byte each.
        self._body = BytesIO()
        self.refusal: ProductConsumerError | None = None
        self._max_bytes = max_bytes
        self._header_bytes = 0
        self._ignored_bytes = 0

    @property
    def body(self) -> bytes:
        """What has arrived of it."""
        return self._body.getvalue()

    @property
    def location(self) -> str:
        """Where a redirect leads; empty when this is none."""
        return self.headers.get("location", "") if self.status in _REDIRECTS else ""

    def validators(self) -> tuple[str | None, str | None]:
        """``ETag`` and ``Last-Modified``, where they are fit to be sent back.

        A picture that was changed in the very second of the answer may change once more in it, and
        its date would not show that: such a date is left out (RFC 9110 8.8.2.2).
        """
        last_modified = self.headers.get("last-modified", "")
        age_seconds = _date(self.headers.get("date", "")) - _date(last_modified)
        is_settled = age_seconds >= MIN_SETTLED_SECONDS
        etag = _validator(self.headers.get("etag", ""))
        return etag, _validator(last_modified) if is_settled else None

    def take_header_line(self, line: bytes) -> bool:
        """False: read no further."""
        self._header_bytes += len(line)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.refusal = ImageUnavailable("image_headers", "headers over 64 KiB")
        elif line.startswith(b"HTTP/") and not self._body.tell():
            self._begin(line)
        elif not self._body.tell():
            name, _, value = line.partition(b":")
            self._take_header(_text(name.strip()).lower(), _text(value.strip()))
        return self.refusal is None

    def take_body(self, chunk: bytes) -> bool:
        """False: read no further. Bodies of other answers than 200 are dropped."""
        if self.status != 200:
            self._ignored_bytes += len(chunk)
            return self._ignored_bytes <= _MAX_IGNORED_BYTES
        if self._body.tell() + len(chunk) > self._max_bytes:
            self.refusal = too_large(self._max_bytes)
            return False
        self._body.write(chunk)
        return True

    def _begin(self, status_line: bytes) -> None:
        words = status_line.split(maxsplit=2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        self.status = status if status >= 200 else 0
        self.headers = {}

    def _take_header(self, name: str, value: str) -> None:
        self.headers[name] = value
        if self.status != 200:
            return
        if name == "content-encoding" and value.lower() not in ("", "identity"):
            self.refusal = ImageRejected("content_encoding", value[:40])
        is_number = value.isascii() and value.isdigit()
        # 19 digits hold any length that can be configured; more would only be slow to convert.
        if name == "content-length" and is_number and int(value[:19]) > self._max_bytes:
            self.refusal = too_large(self._max_bytes)


def refusal(
    status: int, headers: Mapping[str, str], missing_grace_seconds: int
) -> ProductConsumerError:
    """The error that a status other than 200 stands for; header names are in lower case.

    403, 404 and 410 are looked at three times within ``missing_grace_seconds``, because a CDN may
    not have the picture yet; 0 rejects at once.
    """
    reason = f"http_{status}"
    if status == 204:
        return empty_image()
    if status in _PASSING or status >= 500:
        delay = retry_after_seconds(headers.get("retry-after", ""))
        return ImageUnavailable(reason, delay_seconds=delay)
    if status in _NOT_THERE_YET and missing_grace_seconds > 0:
        return ImageUnavailable(
            reason,
            delay_seconds=missing_grace_seconds / 2,
            max_attempts=_MISSING_ATTEMPTS,
            final_reason=reason,
        )
    return ImageRejected(reason)


def too_large(max_bytes: int) -> ImageRejected:
    """The body is, or says it will be, over the limit."""
    return ImageRejected("image_too_large", f"more than {max_bytes} bytes")


def empty_image() -> ImageUnavailable:
    """A picture without bytes is often one still being uploaded: two more looks."""
    return ImageUnavailable("image_empty", max_attempts=_EMPTY_ATTEMPTS, final_reason="image_empty")


def retry_after_seconds(text: str) -> float | None:
    """Seconds or an HTTP date (RFC 9110 10.2.3), at most ``MAX_RETRY_AFTER_SECONDS``.

    None where there is nothing to wait for or nothing to understand.
    """
    text = text.strip()
    is_number = text.isascii() and text.isdigit()
    seconds = float(text[:9]) if is_number else _seconds_until(text)
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds > 0 else None


def _seconds_until(http_date: str) -> float:
    moment = _date(http_date)
    return 0.0 if math.isnan(moment) else moment - datetime.now(UTC).timestamp()


def _date(http_date: str) -> float:
    """Epoch seconds of an HTTP date; NaN, which no comparison holds for, when it is none."""
    is_short = len(http_date) <= _MAX_DATE_CHARACTERS
    return _epoch_seconds(http_date) if is_short else math.nan


@functools.lru_cache(_REMEMBERED_DATES)
def _epoch_seconds(http_date: str) -> float:
    try:
        moment = parsedate_to_datetime(http_date)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return math.nan


def _validator(value: str) -> str | None:
    is_fit = value.isascii() and value.isprintable() and len(value) <= MAX_VALIDATOR_CHARACTERS
    return value if value and is_fit else None


def _text(value: bytes) -> str:
    """Header text; a few servers send UTF-8 in Location."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
