"""What a body is by its first bytes: formats of pictures, their extensions and content types."""

import re

UNKNOWN = "bin"
CONTENT_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    UNKNOWN: "application/octet-stream",
}
"""By the extension of a picture."""

_SIGNATURES = (
    ("jpg", re.compile(rb"\xff\xd8\xff")),
    ("png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("gif", re.compile(rb"GIF8[79]a")),
    # "BM" alone begins many words, so the size of the second header counts, too.
    ("bmp", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("tiff", re.compile(rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]")),
)


def picture_extension(data: bytes) -> str:
    """Return ``jpg``, ``png``, ``webp``, ``gif``, ``bmp`` or ``tiff``; ``UNKNOWN`` for the rest."""
    return next((name for name, pattern in _SIGNATURES if pattern.match(data)), UNKNOWN)
