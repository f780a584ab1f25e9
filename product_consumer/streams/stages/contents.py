"""What a message of a stage is: told by its content, since producers in the field say little of it.

A picture may be a file, raw pixels with ``image_size``, or base64 within JSON. Everything else is a
record, a text, or the features that another stage made. A content type is a hint: some producers
send raw pixels as ``image/jpeg``.
"""

import base64
import binascii
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from product_consumer.errors import ImageRejected, InvalidMessage, RejectMessage
from product_consumer.images.decoder import is_image_file
from product_consumer.models import Message
from product_consumer.streams.headers import IMAGE_SIZE
from product_consumer.streams.records import UTF8_NAMES, Record, as_record, read_json
from product_consumer.streams.stages.pixels import Shape, read_image_size
from product_consumer.text import excerpt

MAX_TEXT_BYTES = 1024 * 1024
MAX_DIMENSION = 16_384
"""Of a vector of features."""
FEATURE_KINDS = ("image_features", "text_features")

_JSON_OVERHEAD_BYTES = 64 * 1024
_OBJECT = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.){0,1000}"\s*:')
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_DATA_URL = re.compile(r"data:[\w.+/;=-]{0,100};base64,", re.ASCII | re.IGNORECASE)
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is not decoded yet."""

    data: bytes = field(repr=False)
    shape: Shape | None = None
    """Of raw pixels; None for a file."""
    is_file: bool = True
    """Whether it begins as a file does. Raw pixels may do so by chance: then both are tried."""
    filename: str | None = None
    """The name that its JSON gives it."""


@dataclass(frozen=True, slots=True)
class Words:
    """A text, trimmed and in NFC, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A record."""

    record: Record


@dataclass(frozen=True, slots=True)
class Features:
    """A vector that the stage ``features`` made; of unit length."""

    kind: str
    vector: NDArray[np.float32] = field(repr=False)
    model: str | None
    filename: str | None


Content = Picture | Words | Row | Features


def read_content(message: Message, max_image_bytes: int) -> Content:
    """Return what a message carries; decodes no picture. ``max_image_bytes``: of a picture file.

    Raises ``RejectMessage``: ``content_encoding``, ``body_empty``, ``too_large``, ``image_size``,
    ``image_base64``, ``not_an_image``, ``features_invalid``, and what ``records`` raises.
    """
    _check_envelope(message)
    body = (
        message.body.encode("utf-8", "replace") if isinstance(message.body, str) else message.body
    )
    if not body:
        raise InvalidMessage("body_empty", "nothing")
    picture = _picture_of(message, body, max_image_bytes)
    if picture is not None:
        return picture
    most_bytes = max_image_bytes * 4 // 3 + _JSON_OVERHEAD_BYTES
    if len(body) > most_bytes:
        raise InvalidMessage("too_large", f"{len(body)} bytes; at most {most_bytes}")
    return _read_text(message, _as_text(body), max_image_bytes)


def _check_envelope(message: Message) -> None:
    encoding = message.envelope.content_encoding
    if encoding.strip().lower() not in UTF8_NAMES:
        raise InvalidMessage("content_encoding", excerpt(encoding))


def _picture_of(message: Message, body: bytes, max_bytes: int) -> Picture | None:
    """Return the picture whose bytes are the body; None for anything in text."""
    shape, problem = _shape_of(message)
    if shape is not None and shape[0] * shape[1] * shape[2] == len(body):
        # Raw pixels have no limit in bytes: that in pixels is looked at when they are read.
        return Picture(body, shape, is_image_file(body))
    # The letters that some formats begin with begin words, too.
    if _is_plain_text(body):
        has_picture_in_json = _OBJECT.match(body[:2000].decode("utf-8", "ignore")) is not None
        if problem is not None and not has_picture_in_json:
            raise problem
        return None
    if is_image_file(body):
        return Picture(_within(body, max_bytes))
    if problem is not None:
        raise problem
    return None


def _shape_of(message: Message) -> tuple[Shape | None, ImageRejected | None]:
    """Return the shape in the headers, and why the body is not raw pixels of it."""
    value = message.envelope.headers.get(IMAGE_SIZE)
    if value is None:
        return None, None
    try:
        shape = read_image_size(value)
    except ImageRejected as error:
        return None, error
    detail = f"{shape[0]} x {shape[1]} x {shape[2]} does not fit the body"
    return shape, ImageRejected("image_size", detail)


def _within(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise InvalidMessage("too_large", f"an image of {len(data)} bytes; at most {max_bytes}")
    return data


def _is_plain_text(body: bytes) -> bool:
    try:
        return _CONTROL.search(body.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False


def _as_text(body: bytes) -> str:
    try:
        return body.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise ImageRejected("not_an_image", "neither text nor an image") from None


def _read_text(message: Message, text: str, max_image_bytes: int) -> Content:
    kind = message.attributes.get("kind", "")
    value = None if kind == "text" else _object_in(text, _is_json(message))
    if value is not None and isinstance(value.get("image"), str):
        return _picture_in(value, max_image_bytes)
    if value is not None and value.get("kind") in FEATURE_KINDS:
        return _features_of(value)
    if kind == "image" or _content_type(message).startswith("image/"):
        raise ImageRejected("not_an_image", "text where an image is announced")
    if len(text) > MAX_TEXT_BYTES:
        raise InvalidMessage("too_large", f"{len(text)} characters; at most {MAX_TEXT_BYTES}")
    return Row(as_record(value)) if value is not None else _words(text)


def _object_in(text: str, is_announced: bool) -> dict[str, Any] | None:
    """Return the JSON object that a text is; None where it is a text and nothing else.

    A word may begin as JSON does. So what cannot be read is refused only if it is announced as JSON
    or has a first key.
    """
    has_key = _OBJECT.match(text) is not None
    if not is_announced and not has_key:
        return None
    if is_announced and not text.strip():
        raise InvalidMessage("body_empty", "nothing but white space")
    value = read_json(text)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        # JSON that was written twice.
        value = read_json(value)
    if not isinstance(value, dict):
        raise InvalidMessage("json_not_object", f"{excerpt(value)} where an object is needed")
    return value


def _content_type(message: Message) -> str:
    return message.envelope.content_type.partition(";")[0].strip().lower()


def _is_json(message: Message) -> bool:
    name = _content_type(message)
    is_record = message.attributes.get("kind") == "record"
    return is_record or name == "application/json" or name.endswith("+json")


def _picture_in(value: dict[str, Any], max_image_bytes: int) -> Picture:
    name = value.get("image_name")
    data = _decode_base64(value["image"])
    if not is_image_file(data):
        raise ImageRejected("not_an_image", "the base64 in image is no image")
    filename = name if isinstance(name, str) and name else None
    return Picture(_within(data, max_image_bytes), filename=filename)


def _decode_base64(text: str) -> bytes:
    letters = "".join(_DATA_URL.sub("", text, count=1).split()).translate(_URL_SAFE)
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageRejected("image_base64", f"image is no base64: {error}") from error


def _features_of(value: dict[str, Any]) -> Features:
    given = value.get("vector")
    numbers = given if isinstance(given, list) and len(given) <= MAX_DIMENSION else []
    if not numbers or not all(type(number) in (int, float) for number in numbers):
        raise RejectMessage("features_invalid", "vector needs to be a list of numbers")
    vector = np.array(numbers, np.float64)
    largest = float(np.abs(vector).max())
    if largest == 0:
        raise RejectMessage("features_invalid", "a vector without a length")
    # Divided first: the square of a large number is no number.
    vector /= largest
    vector /= np.linalg.norm(vector)
    model, source = value.get("model"), value.get("source")
    name = source.get("filename") if isinstance(source, dict) else None
    return Features(
        value["kind"],
        vector.astype(np.float32),
        model if isinstance(model, str) else None,
        name if isinstance(name, str) else None,
    )


def _words(text: str) -> Words:
    if len(text) > MAX_TEXT_BYTES:
        raise InvalidMessage("too_large", f"{len(text)} characters; at most {MAX_TEXT_BYTES}")
    trimmed = unicodedata.normalize("NFC", text).strip()
    if not trimmed:
        raise InvalidMessage("body_empty", "nothing but white space")
    return Words(trimmed)
