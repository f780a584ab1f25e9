"""Raw pixels: the header ``image_size`` that tells their shape, and pixels -> RGB.

Producers send what ``numpy``'s ``tobytes`` returns, with the array's shape beside it.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from product_consumer.errors import ImageRejected
from product_consumer.images.decoder import check_size
from product_consumer.text import excerpt

CHANNELS = (1, 3, 4)
"""Grey, RGB, and RGB with opacity."""
_MAX_SIDE = 10**6
_TEXT = re.compile(
    r"\s*[\[(]?\s*([0-9]{1,7})\s*[,x\s]\s*([0-9]{1,7})(?:\s*[,x\s]\s*([0-9]{1,7}))?\s*,?\s*[\])]?\s*",
    re.ASCII,
)

Shape = tuple[int, int, int]
"""Height, width, channels."""


def read_image_size(value: object) -> Shape:
    """Return the shape that a header names: a list, or text such as ``[480, 640, 3]``.

    Height and width alone mean one channel. Raises ``ImageRejected`` (``image_size``).
    """
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    numbers = _numbers_of_text(value) if isinstance(value, str) else _numbers_of_list(value)
    shape = (*numbers, 1) if len(numbers) == 2 else numbers
    if len(shape) != 3 or not all(0 < side <= _MAX_SIDE for side in shape):
        raise _wrong(value)
    height, width, channels = shape
    if channels not in CHANNELS:
        raise ImageRejected("image_size", f"{channels} channels; 1, 3 or 4 are read")
    return height, width, channels


def pixels_of(body: bytes, shape: Shape, max_pixels: int) -> NDArray[np.uint8]:
    """Return raw pixels as RGB, uint8, shape (height, width, 3); those with opacity on white.

    Raises ``ImageRejected``: ``image_size`` where they do not fit exactly, and what
    ``images.decoder.check_size`` raises.
    """
    height, width, channels = shape
    if height * width * channels != len(body):
        detail = f"{height} x {width} x {channels} where the body has {len(body)} bytes"
        raise ImageRejected("image_size", detail)
    check_size(width, height, max_pixels)
    pixels = np.frombuffer(body, np.uint8).reshape(shape)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels.copy() if channels == 3 else _on_white(pixels)


def _on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    colours, opacity = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
    mixed = (colours * opacity + 255 * (255 - opacity) + 127) // 255
    return mixed.astype(np.uint8)


def _numbers_of_text(text: str) -> tuple[int, ...]:
    found = _TEXT.fullmatch(text)
    if found is None:
        raise _wrong(text)
    return tuple(int(number) for number in found.groups() if number is not None)


def _numbers_of_list(value: object) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or not all(map(_is_number, value)):
        raise _wrong(value)
    return tuple(int(number) for number in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(value: object) -> ImageRejected:
    shown = excerpt(value if isinstance(value, str) else repr(value)[:100])
    return ImageRejected("image_size", f"{shown} where height, width, channels are needed")
