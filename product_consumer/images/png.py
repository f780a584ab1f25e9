"""PNG files: read without their metadata where that is damaged; colours declared transparent."""

import io
import zlib
from typing import Final

from PIL import Image, ImageChops

MAX_PNG_CHUNKS: Final = 100_000
"""Of a file whose metadata is left out. Ordinary files have tens, some thousands for the pixels."""

_SIGNATURE_BYTES = 8
_COLOUR_TYPE = slice(25, 26)
# Besides the critical chunks: transparency, and those in which an orientation may stand.
_KEPT_CHUNKS = frozenset({b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
_ANCILLARY_BIT = 0x20
# Lengths of tRNS by colour type (PNG 11.3.1.1): grey, colour, palette. Others have none.
_TRANSPARENCY_LENGTHS = {b"\0": range(2, 3), b"\2": range(6, 7), b"\3": range(1, 257)}

_LARGEST_GREYS = {"L;2": 3, "L;4": 15}


def without_metadata(data: bytes) -> bytes | None:
    """Return the file without damaged metadata; None when there is nothing to leave out.

    Kept are critical chunks, damaged or not, and whatever else changes pixels. Nothing is inflated.
    The PNG standard has readers ignore a damaged chunk that is not critical (13.2).
    """
    kept = [data[:_SIGNATURE_BYTES]]
    start = _SIGNATURE_BYTES
    for _ in range(MAX_PNG_CHUNKS):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        chunk = data[start:end]
        if not chunk[4:8].isalpha():
            break
        if _is_needed(chunk, data[_COLOUR_TYPE]):
            kept.append(chunk)
        start = end
    else:
        return None
    result = b"".join(kept)
    return result if len(result) < len(data) else None


def _is_needed(chunk: bytes, colour_type: bytes) -> bool:
    kind, content, checksum = chunk[4:8], chunk[8:-4], chunk[-4:]
    if not kind[0] & _ANCILLARY_BIT:
        return True
    if kind not in _KEPT_CHUNKS or zlib.crc32(chunk[4:-4]) != int.from_bytes(checksum):
        return False
    if kind == b"tRNS":
        return len(content) in _TRANSPARENCY_LENGTHS.get(colour_type, ())
    if kind == b"zTXt":
        # Only one method of compression is defined; Pillow refuses a file with another.
        return content.partition(b"\0")[2][:1] in (b"", b"\0")
    return True


def load_with_transparency(image: Image.Image, data: bytes) -> None:
    """Load the opened PNG ``image`` of ``data``, so that its transparent colour is transparent.

    Pillow compares that colour after scaling the pixels to eight bits, but does not scale it.
    """
    # A list of tiles until it is loaded; a crop of an animation's frame has a tile of its own.
    tiles = getattr(image, "tile", [])
    layout = tiles[0].args if len(tiles) == 1 else ""
    colour = image.info.get("transparency")
    image.load()
    if layout in _LARGEST_GREYS and isinstance(colour, int):
        largest = _LARGEST_GREYS[layout]
        image.info["transparency"] = (colour & largest) * 255 // largest
    elif layout == "RGB;16B" and isinstance(colour, tuple):
        image.putalpha(_alpha_of_16_bits(image, data, colour))
        del image.info["transparency"]


def _alpha_of_16_bits(image: Image.Image, data: bytes, colour: tuple[int, ...]) -> Image.Image:
    """Return 0 where a pixel equals ``colour`` in all its 16 bits, of which ``image`` has eight."""
    upper = [value >> 8 for value in colour]
    lower = [value & 0xFF for value in colour]
    matches = [
        band.point([255 * (level == value) for level in range(256)])
        for pixels, values in ((image, upper), (_lower_bytes(data), lower))
        for band, value in zip(pixels.split(), values, strict=True)
    ]
    matching = matches[0]
    for match in matches[1:]:
        matching = ImageChops.darker(matching, match)
    return ImageChops.invert(matching)


def _lower_bytes(data: bytes) -> Image.Image:
    """Read big-endian samples as little-endian: of each, Pillow then takes the other byte."""
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    image.load()
    return image
