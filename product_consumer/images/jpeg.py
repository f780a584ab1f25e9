"""JPEG files: what is looked at before they are decoded, and the quick way to their pixels."""

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
"""A file is decoded smaller only while its shorter side keeps this many pixels for each one that
the model will see: nearly all that is lost is too fine for the model's size anyway."""

# libjpeg decodes at these as quickly as its vector code allows; at others, 7/8 say, slower than
# in full.
_DCT_FACTORS = (4, 2)

# A marker with a length behind it: not a stuffed FF, fill, a restart or TEM.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9


def has_too_many_scans(data: bytes) -> bool:
    """A few bytes per scan make a decoder pass over all pixels once more, for hours in the end."""
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
    """How many times smaller a JPEG of this width and height may be decoded: 1, 2 or 4.

    ``shorter_side_pixels``: what the shorter side will be shrunk to; None keeps every pixel. Sides
    that the factor does not divide are left alone too: their last column would stand for pixels
    that are not there, which moves the whole picture by up to a pixel of the model's.
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
    """RGB pixels, (height, width, 3), each side of ``size`` divided by ``factor``.

    Equal to Pillow's at factor 1, and made without the GIL. None for a file whose header is read
    otherwise here or that is damaged in any way: Pillow has the last word on it.
    """
    width, height = (side // factor for side in size)
    scaling = {"min_height": height, "min_width": width, "min_factor": factor}
    try:
        # Before anything is allocated, in case the two libraries read a hostile header differently.
        if simplejpeg.decode_jpeg_header(data, **scaling)[:2] != (height, width):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", **scaling)
    # Documented is ValueError; a subsampling that it has no name for is a KeyError.
    except Exception:
        return None
    return pixels
