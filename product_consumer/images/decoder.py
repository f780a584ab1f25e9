"""Image bytes -> RGB pixels, within pixel limits. Every byte is taken to be hostile."""

import io
import os
import threading
import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from product_consumer.errors import ImageRejected, ImageUnavailable, ProductConsumerError
from product_consumer.images.jpeg import (
    dct_factor,
    decode_intact_jpeg,
    has_too_many_scans,
    is_intact_cmyk,
)
from product_consumer.images.jpeg_damage import load_damaged_jpeg
from product_consumer.images.png import load_with_transparency, without_metadata

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
"""The formats that are decoded; Pillow's other readers stay closed to hostile bytes."""
MIN_SIDE_PIXELS: Final = 8
MAX_ASPECT: Final = 20
"""Longer side over shorter side: beyond it an image is a line, a banner or a mistake."""

# A truncated file is usually a truncated transfer: one more download.
_TRUNCATED_ATTEMPTS = 2
# Colour and grey, eight bits each; other JPEG modes need conversions that only Pillow has.
_QUICK_JPEG_MODES = ("RGB", "L")
_ORIENTATION_TAG = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR"),
    (b"8BPS", "PSD"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

# Our own limit is checked first; Pillow's would print warnings about files that it accepts.
Image.MAX_IMAGE_PIXELS = None
# Hostile files make Pillow warn at length about tags and palettes; the outcome is enough.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageDecoder:
    """Decodes image files within limits. Any number of threads may use it.

    ``max_pixels``: width times height, checked before anything is decoded.
    ``max_concurrent``: images decoded at once, each with about ten bytes of memory per pixel. More
    than there are cores would gain nothing.
    """

    def __init__(self, max_pixels: int, max_concurrent: int = max(4, os.cpu_count() or 1)) -> None:
        self._max_pixels = max_pixels
        self._slots = threading.BoundedSemaphore(max_concurrent)

    def decode(self, data: bytes, shorter_side_pixels: int | None = None) -> NDArray[np.uint8]:
        """Return the first frame, upright and on white: RGB, uint8, shape (height, width, 3).

        Equals plain Pillow's ``exif_transpose``, ``alpha_composite`` on white and
        ``convert("RGB")``, except that 16-bit grey is scaled to 8 bits and not clipped, that a
        transparent colour of a PNG is so at every depth, and that a BMP with no visible pixel is
        opaque. A PNG with damaged metadata is read without it. A JPEG without an end mark is read
        if all its rows are there, and one of which rows are missing is truncated.
        ``shorter_side_pixels``: the size to which the caller will shrink the shorter side. A large
        JPEG then comes at half or a quarter of its size. Limits are those of the full size.

        Raises ``ImageRejected``: ``not_an_image``, ``image_format``, ``image_pixels``,
        ``image_aspect``, ``image_too_small``, ``image_corrupt``; ``ImageUnavailable``:
        ``image_truncated``, final after two deliveries.
        """
        name = _format_of(data)
        try:
            _check_before_opening(data, name, self._max_pixels)
            with self._slots:
                return self._decode_file(data, name, shorter_side_pixels)
        except ProductConsumerError:
            raise
        # Pillow raises SyntaxError, struct.error, MemoryError and more on hostile files.
        except Exception as error:
            raise _decoding_error(data, name, error) from error

    def _decode_file(
        self, data: bytes, name: str, shorter_side_pixels: int | None
    ) -> NDArray[np.uint8]:
        try:
            return _decode(data, name, self._max_pixels, shorter_side_pixels)
        except ProductConsumerError:
            raise
        except Exception:
            bare = without_metadata(data) if name == "PNG" else None
            if bare is None:
                raise
        return _decode(bare, name, self._max_pixels, shorter_side_pixels)


def is_image_file(data: bytes) -> bool:
    """Return whether bytes begin as a file of a known image format does, decodable or not."""
    try:
        return bool(_format_of(data))
    except ImageRejected as error:
        return error.reason == "image_format"


def _format_of(data: bytes) -> str:
    """Return one of ``FORMATS``; raises ``ImageRejected`` for anything else."""
    name = next((name for magic, name in _MAGIC if data.startswith(magic)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        name = "WEBP"
    elif data[4:8] == b"ftyp":
        name = _format_of_brands(data)
    if not name:
        raise ImageRejected("not_an_image", "unknown first bytes")
    if name not in FORMATS:
        raise ImageRejected("image_format", name)
    return name


def _format_of_brands(data: bytes) -> str:
    """Read major and compatible brands of the file type box (ISO/IEC 14496-12 4.3)."""
    size = min(int.from_bytes(data[:4]), 256)
    brands = {data[8:12]} | {data[start : start + 4] for start in range(16, size, 4)}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIF_BRANDS else ""


def _check_before_opening(data: bytes, name: str, max_pixels: int) -> None:
    if name == "WEBP":
        # Pillow allocates the whole canvas, twice, when it opens a WebP file.
        check_size(*_webp_size(data), max_pixels)
    if name == "JPEG" and has_too_many_scans(data):
        raise ImageRejected("image_corrupt", "too many JPEG scans or markers")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the canvas (RFC 9649, sections 2.5 to 2.7)."""
    if len(data) < 30:
        raise EOFError("truncated header")
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = body[6:8], body[8:10]
    return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise ``ImageRejected``: ``image_pixels``, ``image_aspect``, ``image_too_small``."""
    size = f"{width} x {height}"
    if width * height > max_pixels:
        raise ImageRejected("image_pixels", f"{size} is more than {max_pixels} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageRejected("image_aspect", f"{size} is beyond {MAX_ASPECT}:1")
    if min(width, height) < MIN_SIDE_PIXELS:
        raise ImageRejected("image_too_small", f"{size}, at least {MIN_SIDE_PIXELS} a side")


def _decode(
    data: bytes, name: str, max_pixels: int, shorter_side_pixels: int | None
) -> NDArray[np.uint8]:
    image: Image.Image = Image.open(io.BytesIO(data), formats=(name,))
    check_size(*image.size, max_pixels)
    if name == "JPEG":
        return _decode_jpeg(image, data, shorter_side_pixels)
    if name == "PNG":
        load_with_transparency(image, data)
    elif name == "BMP":
        image = _without_unused_alpha(image)
    return _finished(image)


def _decode_jpeg(
    image: Image.Image, data: bytes, shorter_side_pixels: int | None
) -> NDArray[np.uint8]:
    method = _transposition(image)
    if image.mode in _QUICK_JPEG_MODES:
        factor = dct_factor(image.size, shorter_side_pixels) if method is None else 1
        pixels = decode_intact_jpeg(data, image.size, factor)
        if pixels is not None:
            upright = None if method is None else Image.fromarray(pixels).transpose(method)
            return pixels if upright is None else np.array(upright)
    elif is_intact_cmyk(data, image.size):
        return _finished(image)
    return _finished(load_damaged_jpeg(data))


def _without_unused_alpha(image: Image.Image) -> Image.Image:
    """Windows and browsers show an image that is transparent everywhere as an opaque one."""
    is_unused = image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)
    return image.convert("RGB") if is_unused else image


def _finished(image: Image.Image) -> NDArray[np.uint8]:
    image.load()
    # A writable copy: torch warns about read-only arrays.
    return np.array(_flatten(_upright(image)))


def _upright(image: Image.Image) -> Image.Image:
    method = _transposition(image)
    return image if method is None else image.transpose(method)


def _transposition(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TRANSPOSITIONS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    # Pillow raises anything on broken tags; an image with broken tags is still an image.
    except Exception:
        return None


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _scale_16_bit_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    # Copies an RGB image too: the opened image would keep the file's bytes alive.
    return image.convert("RGB")


def _scale_16_bit_grey(image: Image.Image) -> Image.Image:
    """Scale to 8 bits; ``convert`` would clip, so that 40,000 of 65,535 became white."""
    values = np.asarray(image).astype(np.int64).clip(0, 65_535)
    grey = (values >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _decoding_error(data: bytes, name: str, error: Exception) -> ProductConsumerError:
    detail = f"{name}: {type(error).__name__}"
    if "truncated" in str(error).lower() or _ends_early(data, name):
        return ImageUnavailable(
            "image_truncated",
            detail,
            max_attempts=_TRUNCATED_ATTEMPTS,
            final_reason="image_truncated",
        )
    return ImageRejected("image_corrupt", detail)


def _ends_early(data: bytes, name: str) -> bool:
    """Return True when the file's end marker or length says that bytes are missing."""
    if name == "JPEG":
        return data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) < 0
    if name == "PNG":
        return b"IEND" not in data[-4096:]
    if name == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if name == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    if name == "GIF":
        return not data.endswith(b";")
    return _last_box_end(data) > len(data)


def _last_box_end(data: bytes) -> int:
    """Return where the last top-level box of an ISO media file should end."""
    end = 0
    for _ in range(64):
        size = int.from_bytes(data[end : end + 4])
        if end >= len(data) or size < 8:
            break
        end += size
    return end
