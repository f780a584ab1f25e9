"""PNGs: damaged metadata costs no picture, a transparent colour is so at every depth."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from product_consumer.errors import ImageRejected, ImageUnavailable
from product_consumer.images.decoder import ImageDecoder
from product_consumer.images.png import MAX_PNG_CHUNKS, without_metadata
from tests.support.png_files import damaged_chunk, png, png_chunk, png_of_16_bits, with_chunk

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

DECODER = ImageDecoder(1_000_000)
WHITE = [255, 255, 255]
LARGE_PROFILE = b"sRGB\0\0" + zlib.compress(b"\0" * 2_000_000)
TEXT_BOMB = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 10_000_000))
UPRIGHT_BY_TAG = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"


def png_of(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


NOISE = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PLAIN = png_of(Image.fromarray(NOISE))
PALETTE = png_of(Image.fromarray(NOISE).convert("P"), transparency=bytes(range(256)))


def reason_of(data: bytes) -> str:
    with pytest.raises((ImageRejected, ImageUnavailable)) as caught:
        DECODER.decode(data)
    assert isinstance(caught.value, ImageRejected | ImageUnavailable)
    return caught.value.reason


def assert_decodes_as(data: bytes, undamaged: bytes) -> None:
    assert np.array_equal(DECODER.decode(data), DECODER.decode(undamaged))


@pytest.mark.parametrize("file", [PLAIN, PALETTE], ids=["colour", "palette"])
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"], ids=["in front", "behind"])
@pytest.mark.parametrize(
    "kind",
    [
        *("pHYs", "iCCP", "gAMA", "cHRM", "sRGB", "sBIT", "tIME", "bKGD", "hIST", "sPLT", "tEXt"),
        *("zTXt", "iTXt", "eXIf", "acTL", "fcTL", "cICP", "prVt"),
    ],
)
def test_a_wrong_checksum_of_metadata_costs_no_picture(
    kind: str, before: bytes, file: bytes
) -> None:
    chunk = damaged_chunk(kind.encode(), b"name\0\0\0\0" + b"\1" * 32)

    assert_decodes_as(with_chunk(file, chunk, before), file)


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param((b"iCCP", LARGE_PROFILE), id="large profile"),
        pytest.param((b"iCCP", b"name\0\7" + b"x" * 20), id="profile of another method"),
        pytest.param((b"iCCP", b""), id="empty profile"),
        pytest.param((b"gAMA", b"\0\1"), id="short gamma"),
        pytest.param((b"cHRM", b"\0" * 31), id="short colours"),
        pytest.param((b"pHYs", b"\0"), id="short size of a pixel"),
        pytest.param((b"sRGB", b""), id="empty intent"),
        pytest.param((b"zTXt", b"Comment\0\7" + b"x" * 20), id="text of another method"),
        pytest.param((b"zTXt", b"Comment\0\0garbage"), id="text that does not inflate"),
        pytest.param((b"acTL", b"\0"), id="short animation"),
        pytest.param((b"tRNS", b"\0\1"), id="short transparency"),
        pytest.param((b"tRNS", b""), id="empty transparency"),
    ],
)
def test_malformed_metadata_costs_no_picture(chunk: tuple[bytes, bytes]) -> None:
    assert_decodes_as(with_chunk(PLAIN, png_chunk(*chunk)), PLAIN)


def test_metadata_that_is_cut_off_behind_the_pixels_costs_no_picture() -> None:
    data = with_chunk(PLAIN, damaged_chunk(b"tEXt", b"Comment\0" + b"x" * 100), b"IEND")

    assert_decodes_as(data[:-60], PLAIN)


def test_an_orientation_counts_beside_damaged_metadata() -> None:
    upright = with_chunk(PLAIN, png_chunk(b"eXIf", UPRIGHT_BY_TAG))

    assert DECODER.decode(upright).shape == (30, 20, 3)
    assert_decodes_as(with_chunk(upright, damaged_chunk(b"pHYs", b"\0" * 9)), upright)


def test_transparency_counts_beside_damaged_metadata_and_not_when_damaged() -> None:
    colour = struct.pack(">3H", 7, 8, 9)
    opaque = png_of(Image.new("RGB", (8, 8), (7, 8, 9)))
    transparent = with_chunk(opaque, png_chunk(b"tRNS", colour))

    assert DECODER.decode(transparent)[0, 0].tolist() == WHITE
    assert_decodes_as(with_chunk(transparent, damaged_chunk(b"pHYs", b"\0" * 9)), transparent)
    assert_decodes_as(with_chunk(opaque, damaged_chunk(b"tRNS", colour)), opaque)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_a_critical_chunk_is_corrupt(kind: bytes) -> None:
    start = PALETTE.index(kind) - 4
    end = start + 12 + int.from_bytes(PALETTE[start : start + 4])
    damaged = PALETTE[: end - 1] + bytes([PALETTE[end - 1] ^ 1]) + PALETTE[end:]

    assert reason_of(damaged) == "image_corrupt"
    assert reason_of(with_chunk(damaged, damaged_chunk(b"pHYs", b""))) == "image_corrupt"


def test_a_wrong_byte_in_the_pixels_is_corrupt_beside_damaged_metadata_too() -> None:
    middle = len(PLAIN) // 2
    damaged = PLAIN[:middle] + bytes([PLAIN[middle] ^ 0xFF]) + PLAIN[middle + 1 :]

    assert reason_of(with_chunk(damaged, damaged_chunk(b"pHYs", b""))) == "image_corrupt"


def test_a_text_that_inflates_without_end_is_corrupt_beside_damaged_metadata_too() -> None:
    data = with_chunk(with_chunk(PLAIN, TEXT_BOMB), damaged_chunk(b"pHYs", b""))

    assert reason_of(data) == "image_corrupt"


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_png_with_damaged_metadata_is_truncated(kept: float) -> None:
    data = with_chunk(PLAIN, damaged_chunk(b"pHYs", b""))

    assert reason_of(data[: int(len(data) * kept)]) == "image_truncated"


def test_the_limit_on_pixels_holds_for_a_png_with_damaged_metadata() -> None:
    data = with_chunk(PLAIN, damaged_chunk(b"pHYs", b""))

    with pytest.raises(ImageRejected, match="image_pixels"):
        ImageDecoder(30 * 20 - 1).decode(data)


def test_nothing_is_left_out_of_a_png_without_metadata_or_with_endless_chunks() -> None:
    chunk = png_chunk(b"prVt", b"")

    assert without_metadata(PLAIN) is None
    assert without_metadata(with_chunk(PLAIN, chunk * MAX_PNG_CHUNKS)) is None
    assert without_metadata(with_chunk(PLAIN, chunk * 1000)) == PLAIN


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_white_at_every_depth(bits: int) -> None:
    hidden = 1
    # Eight pixels a row: seven of the transparent grey, then black.
    row = int("".join(f"{hidden:0{bits}b}" for _ in range(7)) + "0" * bits, 2)
    rows = (b"\0" + row.to_bytes(bits)) * 8
    data = png((8, 8), bits, 0, rows, (b"tRNS", struct.pack(">H", hidden)))

    decoded = DECODER.decode(data)

    assert decoded[0, 0].tolist() == WHITE
    assert decoded[0, 7].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("bits", "value", "grey"), [(2, 2, 170), (4, 9, 153)])
def test_another_grey_than_the_transparent_one_stays(bits: int, value: int, grey: int) -> None:
    row = int(f"{value:0{bits}b}" * 8, 2).to_bytes(bits)
    data = png((8, 8), bits, 0, (b"\0" + row) * 8, (b"tRNS", b"\0\1"))

    assert DECODER.decode(data)[0, 0].tolist() == [grey] * 3


COLOUR = (0x1234, 0x5678, 0x9ABC)


@pytest.mark.parametrize(
    ("pixel", "shown"),
    [
        (COLOUR, WHITE),
        ((0x1234, 0x5678, 0x9ABD), [0x12, 0x56, 0x9A]),
        ((0x1134, 0x5678, 0x9ABC), [0x11, 0x56, 0x9A]),
    ],
)
def test_sixteen_bit_colour_is_transparent_when_all_its_bits_agree(
    pixel: tuple[int, ...], shown: list[int]
) -> None:
    data = png_of_16_bits(2, pixel, (b"tRNS", struct.pack(">3H", *COLOUR)))

    assert DECODER.decode(data)[0, 0].tolist() == shown


def test_a_transparent_picture_is_turned_as_its_tag_says() -> None:
    extra = [(b"tRNS", struct.pack(">3H", *COLOUR)), (b"eXIf", UPRIGHT_BY_TAG)]
    row = b"\0" + struct.pack(">3H", *COLOUR) * 8 + b"\1" * 6 * 8
    data = png((16, 8), 16, 2, row * 8, *extra)

    decoded = DECODER.decode(data)

    assert decoded.shape == (16, 8, 3)
    assert decoded[0, 0].tolist() == WHITE
    assert decoded[15, 0].tolist() == [1, 1, 1]
