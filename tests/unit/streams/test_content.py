"""Formats of pictures by their first bytes."""

import io

import pytest
from PIL import Image

from product_consumer.streams.content import UNKNOWN, picture_extension


@pytest.mark.parametrize(
    ("format_name", "extension"),
    [
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("TIFF", "tiff"),
    ],
)
def test_what_pillow_writes_is_recognised(format_name: str, extension: str) -> None:
    data = io.BytesIO()
    Image.new("RGB", (3, 2)).save(data, format_name)

    assert picture_extension(data.getvalue()) == extension


@pytest.mark.parametrize(
    "data", [b"", b"BMW is a car, and BM no bitmap", b"RIFF1234WAVE", b"\xff\xd8"]
)
def test_the_rest_is_unknown(data: bytes) -> None:
    assert picture_extension(data) == UNKNOWN
