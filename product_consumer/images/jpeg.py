"""JPEG files: checks before they are decoded, and the quick way to their pixels."""

import re
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

MAX_JPEG_SCANS: Final = 100
"""Ordinary progressive files have about ten; each scan costs a pass over all pixels."""
MAX_JPEG_MARKERS: Final = 5000
"""Ordinary files have tens, some hundreds for colour profiles and metadata."""
SPARE_SIDE_PIXELS: Final = 2
"""A file is decoded smaller only while its shorter side keeps this many pixels per pixel of the
model's input. Nearly all lost detail is too fine for the model's size anyway."""

# libjpeg has fast vector code for these factors; others, for example 7/8, are slower than none.
_DCT_FACTORS = (4, 2)
_SMALLEST = 8

# A marker that a length follows: not a stuffed FF, fill, a restart or TEM.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9


def has_too_many_scans(data: bytes) -> bool:
    """Return True for a file with so many scans or markers that decoding could take hours.

    Each scan costs a few bytes and makes the decoder pass over all pixels once more.
    """
    scans, position = 0, 2
    for _ in range(MAX_JPEG_MARKERS):
        marker = _JPEG_MARKER.search(data, position)
        if marker is None or marker[1][0] == _END_OF_IMAGE:
            return False
        scans += marker[1][0] == _START_OF_SCAN
        if scans > MAX_JPEG_SCANS:
            break
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return True


def dct_factor(size: tuple[int, int], shorter_side_pixels: int | None) -> int:
    """Return how many times smaller a JPEG of this width and height may be decoded: 1, 2 or 4.

    ``shorter_side_pixels``: the size to which the shorter side will be shrunk; None keeps every
    pixel. The factor divides both sides. Otherwise the last column would include pixels that do not
    exist and move the whole image by up to a pixel of the model's input.
    """
    if shorter_side_pixels is None:
        return 1
    least = SPARE_SIDE_PIXELS * shorter_side_pixels
    fitting = (
        factor
        for factor in _DCT_FACTORS
        if min(size) >= factor * least and not any(side % factor for side in size)
    )
    return next(fitting, 1)


def decode_intact_jpeg(data: bytes, size: tuple[int, int], factor: int) -> NDArray[np.uint8] | None:
    """Return RGB pixels, uint8, shape (height, width, 3), each side divided by ``factor``.

    ``size``: width and height. At factor 1 the pixels equal Pillow's. Decoding releases the GIL.
    None for a damaged file, and for a header that gives another size here.
    """
    width, height = (side // factor for side in size)
    scaling = {"min_height": height, "min_width": width, "min_factor": factor}
    try:
        # Checked before memory is allocated: two libraries may read a hostile header differently.
        if simplejpeg.decode_jpeg_header(data, **scaling)[:2] != (height, width):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", **scaling)
    # Documented is ValueError; a subsampling without a name in simplejpeg raises KeyError.
    except Exception:
        return None
    return pixels


def is_intact_cmyk(data: bytes, size: tuple[int, int]) -> bool:
    """Return True for a CMYK file that libjpeg decodes without a complaint.

    ``size``: width and height. False also for a header that gives another size here, and for a
    subsampling that simplejpeg does not know.
    """
    try:
        if simplejpeg.decode_jpeg_header(data)[:2] != size[::-1]:
            return False
        # Small, because nobody sees the pixels.
        simplejpeg.decode_jpeg(data, "CMYK", min_factor=_SMALLEST)
    except Exception:
        return False
    return True
