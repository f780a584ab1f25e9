"""One response of an image server: taken in within limits, then judged for its message."""

import functools
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Final

from product_consumer.errors import ImageRejected, ImageUnavailable, ProductConsumerError

MAX_HEADER_BYTES: Final = 64 * 1024
"""Of one response, interim responses and trailers included."""
MAX_RETRY_AFTER_SECONDS: Final = 900.0
MAX_VALIDATOR_CHARACTERS: Final = 512
MIN_SETTLED_SECONDS: Final = 2.0
"""How much older than ``Date`` a ``Last-Modified`` must be to serve as a validator."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_NOT_THERE_YET = frozenset({403, 404, 410})
# Not yet, too often, or a connection that broke: of RFC 9110, 8470, 6585 and 4918, of Twitter and
# Cloudinary (420), Shopify (430), Microsoft (449) and nginx (499).
_PASSING = frozenset({202, 408, 420, 421, 423, 424, 425, 429, 430, 449, 499})
_WITHOUT_BODY = frozenset({204, 205})
# Codings of IANA's registry, and others that servers have used. Any other word is a label that an
# object store repeats; then the bytes are those of the file.
_CODINGS = frozenset(
    {
        *("gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd", "dcb", "dcz"),
        *("aes128gcm", "exi", "pack200-gzip", "sdch", "peerdist", "bzip2", "x-bzip2", "lzma"),
        *("x-lzma", "xz", "x-xz", "lz4", "snappy"),
    }
)
_MISSING_ATTEMPTS = 3
_EMPTY_ATTEMPTS = 3
# Reading more of the body of a redirect or a failure costs more than a new connection.
_MAX_IGNORED_BYTES = 64 * 1024
# All responses of a second have the same ``Date``, and many the same ``Last-Modified``.
_REMEMBERED_DATES = 1024
_MAX_DATE_CHARACTERS = 100


class Response:
    """One HTTP response as it arrives, header line by header line and chunk by chunk.

    ``status`` is 0 until a final response begins. ``refusal`` is set when a limit was passed: the
    error that the message deserves. ``max_bytes`` bounds the body. For one thread.
    """

    def __init__(self, max_bytes: int) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        # BytesIO gives its bytes out without a copy; a list could grow to one chunk per byte.
        self._body = BytesIO()
        self.refusal: ProductConsumerError | None = None
        self._max_bytes = max_bytes
        self._header_bytes = 0
        self._ignored_bytes = 0

    @property
    def body(self) -> bytes:
        """The bytes that have arrived."""
        return self._body.getvalue()

    @property
    def location(self) -> str:
        """The target of a redirect as the server wrote it; empty for any other response."""
        return self.headers.get("location", "") if self.status in _REDIRECTS else ""

    def validators(self) -> tuple[str | None, str | None]:
        """Return ``ETag`` and ``Last-Modified``, each None if it cannot be sent back.

        An image that was changed in the second of the response may change once more in that second,
        under the same date. Such a date is left out (RFC 9110 8.8.2.2).
        """
        last_modified = self.headers.get("last-modified", "")
        age_seconds = _date(self.headers.get("date", "")) - _date(last_modified)
        is_settled = age_seconds >= MIN_SETTLED_SECONDS
        etag = _validator(self.headers.get("etag", ""))
        return etag, _validator(last_modified) if is_settled else None

    def take_header_line(self, line: bytes) -> bool:
        """Take in a header line; return False to stop reading."""
        self._header_bytes += len(line)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.refusal = ImageUnavailable("image_headers", "headers over 64 KiB")
        elif line.startswith(b"HTTP/") and not self._body.tell():
            self._begin(line)
        elif not self._body.tell():
            name, _, value = line.partition(b":")
            self._take_header(_text(name.strip()).lower(), value.strip())
        return self.refusal is None

    def take_body(self, chunk: bytes) -> bool:
        """Take in a chunk; return False to stop reading. Only a body of status 200 is kept."""
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

    def _take_header(self, name: str, content: bytes) -> None:
        value = _address(content) if name == "location" else _text(content)
        self.headers[name] = value
        if self.status != 200:
            return
        if name == "content-encoding" and _names_a_coding(value):
            self.refusal = ImageRejected("content_encoding", value[:40])
        is_number = value.isascii() and value.isdigit()
        # 19 digits hold any length that can be configured; more would only be slow to convert.
        if name == "content-length" and is_number and int(value[:19]) > self._max_bytes:
            self.refusal = too_large(self._max_bytes)


def refusal(
    status: int, headers: Mapping[str, str], missing_grace_seconds: int
) -> ProductConsumerError:
    """Return the error that a status other than 200 stands for.

    ``headers``: names in lower case. 403, 404 and 410 are tried three times within
    ``missing_grace_seconds``, because a CDN may not have the image yet; 0 rejects at once. Any
    other status from 400 on is tried again when the server says after which time.
    """
    reason = f"http_{status}"
    if status in _WITHOUT_BODY:
        return empty_image()
    if status in _NOT_THERE_YET:
        return _missing_image(reason, missing_grace_seconds)
    delay = retry_after_seconds(headers.get("retry-after", ""))
    is_postponed = status >= 400 and delay is not None
    if status in _PASSING or status >= 500 or is_postponed:
        return ImageUnavailable(reason, delay_seconds=delay)
    return ImageRejected(reason)


def _missing_image(reason: str, grace_seconds: int) -> ProductConsumerError:
    if grace_seconds <= 0:
        return ImageRejected(reason)
    return ImageUnavailable(
        reason,
        delay_seconds=grace_seconds / 2,
        max_attempts=_MISSING_ATTEMPTS,
        final_reason=reason,
    )


def too_large(max_bytes: int) -> ImageRejected:
    """Return the error of a body that is, or announces to be, over the limit."""
    return ImageRejected("image_too_large", f"more than {max_bytes} bytes")


def empty_image() -> ImageUnavailable:
    """Return the error of an empty body: the upload may not be complete, so two more attempts."""
    return ImageUnavailable("image_empty", max_attempts=_EMPTY_ATTEMPTS, final_reason="image_empty")


def retry_after_seconds(text: str) -> float | None:
    """Return the delay of a Retry-After header, at most ``MAX_RETRY_AFTER_SECONDS``.

    ``text``: seconds or an HTTP date (RFC 9110 10.2.3). None for a delay that is not positive and
    for malformed text.
    """
    text = text.strip()
    is_number = text.isascii() and text.isdigit()
    seconds = float(text[:9]) if is_number else _seconds_until(text)
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds > 0 else None


def _seconds_until(http_date: str) -> float:
    moment = _date(http_date)
    return 0.0 if math.isnan(moment) else moment - datetime.now(UTC).timestamp()


def _date(http_date: str) -> float:
    """Return epoch seconds of an HTTP date; NaN, which fails every comparison, if malformed."""
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


def _names_a_coding(content_encoding: str) -> bool:
    """Return True when the body is coded: a list may name several codings, with parameters."""
    items = content_encoding.lower().split(",")
    return any(item.partition(";")[0].strip(" \t\"'") in _CODINGS for item in items)


def _address(value: bytes) -> str:
    """Decode a Location: UTF-8, or bytes of an older encoding, which go back as they came."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in value)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
