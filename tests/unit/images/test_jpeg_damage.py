"""Damaged JPEGs: one with all its rows is decoded, one without is truncated."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from product_consumer.errors import ImageUnavailable
from product_consumer.images.decoder import ImageDecoder
from tests.support.photographs import draw_photograph, jpeg_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

DECODER = ImageDecoder(1_000_000)
END_MARK = b"\xff\xd9"
PHOTOGRAPH = draw_photograph(240, 320)
ON_ITS_SIDE = Image.Exif()
ON_ITS_SIDE[0x0112] = 6


KINDS = {
    "baseline": jpeg_of(PHOTOGRAPH),
    "full chroma": jpeg_of(PHOTOGRAPH, subsampling="4:4:4"),
    "progressive": jpeg_of(PHOTOGRAPH, progressive=True),
    "restart rows": jpeg_of(PHOTOGRAPH, restart_marker_rows=1),
    "restart blocks": jpeg_of(PHOTOGRAPH, restart_marker_blocks=7),
    "progressive restarts": jpeg_of(PHOTOGRAPH, restart_marker_rows=2, progressive=True),
    "grey": jpeg_of(PHOTOGRAPH.convert("L")),
    "grey progressive": jpeg_of(PHOTOGRAPH.convert("L"), progressive=True),
    "cmyk": jpeg_of(PHOTOGRAPH.convert("CMYK")),
    "on its side": jpeg_of(PHOTOGRAPH, exif=ON_ITS_SIDE),
}
every_kind = pytest.mark.parametrize("whole", KINDS.values(), ids=KINDS.keys())


def assert_truncated(data: bytes) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        DECODER.decode(data)
    assert caught.value.reason == caught.value.final_reason == "image_truncated"


def cut(whole: bytes, share: float) -> bytes:
    """Keep this share of the scans' data."""
    start = whole.index(b"\xff\xda")
    return whole[: start + int((len(whole) - start) * share)].rstrip(b"\xff")


def scan_starts(data: bytes) -> list[int]:
    return [start for start in range(len(data)) if data.startswith(b"\xff\xda", start)]


@every_kind
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_with_all_its_rows_needs_no_end_mark(whole: bytes, lost: int) -> None:
    assert np.array_equal(DECODER.decode(whole[:-lost]), DECODER.decode(whole))


@every_kind
@pytest.mark.parametrize("padding", [b"\0" * 500, b"<!-- served by node 3 -->" * 20])
def test_what_follows_the_rows_does_not_stand_for_missing_data(
    whole: bytes, padding: bytes
) -> None:
    assert np.array_equal(DECODER.decode(whole[:-2] + padding), DECODER.decode(whole))


@every_kind
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8, 0.97])
def test_a_jpeg_that_is_cut_in_its_rows_is_truncated(whole: bytes, share: float) -> None:
    assert_truncated(cut(whole, share))


@every_kind
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8])
def test_an_end_mark_does_not_stand_for_missing_rows(whole: bytes, share: float) -> None:
    assert_truncated(cut(whole, share) + END_MARK)


def test_an_end_mark_behind_a_restart_mark_does_not_stand_for_missing_rows() -> None:
    whole = KINDS["restart rows"]
    middle = whole.index(b"\xff\xd3", len(whole) // 2)

    assert_truncated(whole[:middle] + END_MARK)
    assert_truncated(whole[: middle + 2] + END_MARK)


def test_a_progressive_jpeg_that_is_cut_between_two_scans_is_truncated() -> None:
    whole = KINDS["progressive"]

    for start in scan_starts(whole)[1:]:
        assert_truncated(whole[:start])


def test_a_scan_in_the_middle_of_a_file_may_be_the_one_that_lacks_rows() -> None:
    whole = KINDS["progressive"]
    _, second, third, *_ = scan_starts(whole)
    tables = whole.rindex(b"\xff\xc4", second, third)
    half = whole[: (second + tables) // 2].rstrip(b"\xff") + whole[tables:]

    assert_truncated(half)


def test_a_grey_picture_is_not_taken_for_missing_rows() -> None:
    data = jpeg_of(Image.new("RGB", (240, 320), (128, 128, 128)))

    assert np.array_equal(DECODER.decode(data[:-2]), DECODER.decode(data))


@pytest.mark.parametrize("kind", ["baseline", "restart rows", "full chroma"])
def test_a_single_wrong_byte_is_no_missing_row(kind: str) -> None:
    whole = KINDS[kind]
    start = whole.index(b"\xff\xda") + 20
    for position in range(start, len(whole) - 20, len(whole) // 20):
        around = whole[position - 1 : position + 2]
        # Neither a marker is damaged nor one made.
        if 0xFF not in around and around[1] ^ 0x10 != 0xFF:
            data = whole[:position] + bytes([around[1] ^ 0x10]) + whole[position + 1 :]
            assert DECODER.decode(data).shape == (320, 240, 3), position


def test_a_damaged_end_mark_costs_no_picture() -> None:
    whole = KINDS["baseline"]

    assert np.array_equal(DECODER.decode(whole[:-1] + b"\xda"), DECODER.decode(whole))


def test_bytes_in_front_of_the_end_mark_change_nothing() -> None:
    whole = KINDS["baseline"]

    decoded = DECODER.decode(whole[:-2] + b"\1\2\3" + END_MARK)

    assert np.array_equal(decoded, DECODER.decode(whole))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_damaged_jpeg_keeps_the_limit_on_pixels(options: dict[str, Any]) -> None:
    data = jpeg_of(PHOTOGRAPH, **options)[:-2]
    pillow = Image.open(io.BytesIO(data))

    with pytest.raises(Exception, match="image_pixels"):
        ImageDecoder(pillow.width * pillow.height - 1).decode(data)
