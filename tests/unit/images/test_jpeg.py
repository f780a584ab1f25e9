import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from product_consumer.errors import ImageRejected, ImageUnavailable
from product_consumer.images import decoder
from product_consumer.images.decoder import ImageDecoder
from product_consumer.images.jpeg import dct_factor, decode_intact_jpeg, is_intact_cmyk
from tests.support.photographs import draw_photograph, jpeg_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

DECODER = ImageDecoder(10_000_000)
SUBSAMPLINGS = ["4:4:4", "4:2:2", "4:2:0"]


def pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def quick_results(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every file that the decoder tried the quick way: whether it gave pixels."""
    results: list[bool] = []

    def watched(data: bytes, size: tuple[int, int], factor: int) -> NDArray[np.uint8] | None:
        pixels = decode_intact_jpeg(data, size, factor)
        results.append(pixels is not None)
        return pixels

    monkeypatch.setattr(decoder, "decode_intact_jpeg", watched)
    return results


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"optimize": True, "quality": 98},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 5, "progressive": True},
    ],
    ids=["plain", "progressive", "optimised", "restart rows", "restart blocks"],
)
@pytest.mark.parametrize("size", [(333, 517), (8, 9), (64, 48)], ids=str)
def test_an_ordinary_jpeg_is_decoded_quickly_and_bit_by_bit_as_by_pillow(
    size: tuple[int, int], options: dict[str, Any], subsampling: str
) -> None:
    data = jpeg_of(draw_photograph(*size), subsampling=subsampling, **options)

    decoded = decode_intact_jpeg(data, size, factor=1)

    assert decoded is not None
    assert np.array_equal(decoded, pillow(data))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(jpeg_of(draw_photograph(90, 70).convert("L")), id="grey"),
        pytest.param(jpeg_of(draw_photograph(90, 70), keep_rgb=True, subsampling=0), id="rgb"),
    ],
)
def test_grey_and_untransformed_jpegs_are_decoded_quickly_too(
    data: bytes, quick_results: list[bool]
) -> None:
    assert np.array_equal(DECODER.decode(data), pillow(data))
    assert quick_results == [True]


def test_a_cmyk_jpeg_is_left_to_pillow(quick_results: list[bool]) -> None:
    data = jpeg_of(draw_photograph(90, 70).convert("CMYK"), subsampling="4:4:4")

    assert np.array_equal(DECODER.decode(data), pillow(data))
    assert quick_results == []
    assert is_intact_cmyk(data, (90, 70))
    assert not is_intact_cmyk(data[:-2], (90, 70))
    assert not is_intact_cmyk(data, (70, 90))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 99])
def test_a_jpeg_that_lies_on_its_side_is_decoded_quickly_and_as_by_pillow(
    orientation: int, quick_results: list[bool]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg_of(draw_photograph(90, 70), exif=exif)

    decoded = DECODER.decode(data, shorter_side_pixels=8)

    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert orientation in (1, 99) or np.array_equal(decoded, np.asarray(upright))
    assert quick_results == [True]


def test_a_damaged_jpeg_is_left_to_pillow(quick_results: list[bool]) -> None:
    intact = jpeg_of(draw_photograph(200, 200), restart_marker_rows=1)
    second_restart = intact.index(b"\xff\xd1")
    data = intact[:second_restart] + b"\1" * 20 + intact[second_restart:]

    assert np.array_equal(DECODER.decode(data), pillow(data))
    assert quick_results == [False]


def test_a_header_of_another_size_than_pillow_read_is_left_to_pillow() -> None:
    data = jpeg_of(draw_photograph(64, 48))

    assert decode_intact_jpeg(data, (64, 48), 1) is not None
    assert decode_intact_jpeg(data, (48, 64), 1) is None


@pytest.mark.parametrize(
    ("size", "shorter_side_pixels", "factor"),
    [
        ((800, 800), 336, 1),
        ((1344, 1344), 336, 2),
        ((1342, 1344), 336, 1),
        ((1500, 2000), 336, 2),
        ((2688, 2688), 336, 4),
        ((2686, 2688), 336, 2),
        ((10_000, 10_000), 336, 4),
        ((1501, 1500), 336, 1),
        ((2690, 2690), 336, 2),
        ((10_000, 10_000), None, 1),
    ],
)
def test_a_jpeg_is_decoded_smaller_while_twice_the_pixels_of_the_model_remain(
    size: tuple[int, int], shorter_side_pixels: int | None, factor: int
) -> None:
    assert dct_factor(size, shorter_side_pixels) == factor
    assert dct_factor(size[::-1], shorter_side_pixels) == factor


@pytest.mark.parametrize(("side", "expected"), [(336, 700), (120, 350), (None, 1400)])
def test_the_decoder_returns_a_large_jpeg_smaller_when_told_the_needed_size(
    side: int | None, expected: int
) -> None:
    data = jpeg_of(Image.new("RGB", (1400, 1400), (200, 100, 50)))

    decoded = DECODER.decode(data, side)

    assert decoded.shape == (expected, expected, 3)
    assert np.abs(decoded.astype(int) - (200, 100, 50)).max() <= 2


def test_a_png_keeps_its_size_whatever_size_is_needed() -> None:
    file = io.BytesIO()
    Image.new("RGB", (1400, 1400)).save(file, "PNG")

    assert DECODER.decode(file.getvalue(), 64).shape == (1400, 1400, 3)


def test_the_limit_on_pixels_is_that_of_the_full_size() -> None:
    data = jpeg_of(Image.new("RGB", (1400, 1400)))

    with pytest.raises(ImageRejected, match="image_pixels"):
        ImageDecoder(1400 * 1400 - 1).decode(data, 64)


def test_nothing_is_allocated_for_a_size_that_only_the_quick_decoder_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda data, *_, **__: decoded.append(data))
    header = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 60_000, 60_000, 3) + b"\1\x11\0" * 3

    assert decode_intact_jpeg(b"\xff\xd8" + header + b"\xff\xda\0\x02", (64, 48), 1) is None
    assert decoded == []


INTACT = [
    jpeg_of(draw_photograph(80, 64), quality=70, **options)
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": "4:4:4"})
]
EDITS = st.lists(st.tuples(st.integers(2, 4000), st.binary(min_size=1, max_size=4)), max_size=4)


def outcome(data: bytes) -> str:
    try:
        return DECODER.decode(data).tobytes().hex()
    except (ImageRejected, ImageUnavailable) as error:
        return f"{type(error).__name__} {error}"


@settings(max_examples=400, deadline=None)
# Once 6 is a subsampling that simplejpeg has no name for.
@example(INTACT[0], [(169, b"\x14")], 998)
@example(INTACT[0], [(169, b"\x14")], 623)
@given(st.sampled_from(INTACT), EDITS, st.integers(100, 6000))
def test_a_damaged_jpeg_ends_as_it_does_with_pillow_alone(
    intact: bytes, edits: Sequence[tuple[int, bytes]], length: int
) -> None:
    data = bytearray(intact)
    for position, replacement in edits:
        start = position % len(data)
        data[start : start + len(replacement)] = replacement
    damaged = bytes(data[:length])

    ours = outcome(damaged)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "decode_intact_jpeg", lambda *_: None)
        assert ours == outcome(damaged)
