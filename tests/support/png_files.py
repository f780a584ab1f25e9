"""PNG files that no encoder would write, chunk by chunk."""

import struct
import zlib
from collections.abc import Sequence

Chunk = tuple[bytes, bytes]
"""Kind and content."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def damaged_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk whose checksum is wrong."""
    chunk = png_chunk(kind, content)
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


def png(size: tuple[int, int], bits: int, color: int, pixels: bytes, *extra: Chunk) -> bytes:
    """Return a PNG file of unfiltered rows, with extra chunks before the pixels."""
    header = struct.pack(">IIBBBBB", *size, bits, color, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_of_16_bits(color: int, pixel: Sequence[int], *extra: Chunk) -> bytes:
    row = b"\0" + struct.pack(f">{len(pixel)}H", *pixel) * 8
    return png((8, 8), 16, color, row * 8, *extra)


def with_chunk(file: bytes, chunk: bytes, before: bytes = b"IDAT") -> bytes:
    """Put a chunk before the first one of another kind."""
    start = file.index(before) - 4
    return file[:start] + chunk + file[start:]
