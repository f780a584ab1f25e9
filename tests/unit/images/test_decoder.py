import io
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from product_consumer.errors import ImageRejected, ImageUnavailable
from product_consumer.images.decoder import ImageDecoder
from product_consumer.images.jpeg import MAX_JPEG_SCANS
from tests.support.png_files import png, png_of_16_bits

# As in production, where Pillow's warnings about broken tags are not printed.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

MAX_PIXELS = 1_000_000
DECODER = ImageDecoder(MAX_PIXELS)
WHITE = (255, 255, 255)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"]


def noise(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def plain_pillow(data: bytes) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def reason_of(data: bytes, decoder: ImageDecoder = DECODER) -> str:
    with pytest.raises(ImageRejected) as caught:
        decoder.decode(data)
    return caught.value.reason


def first_pixel(data: bytes) -> tuple[int, ...]:
    return tuple(DECODER.decode(data)[0, 0].tolist())


@pytest.mark.parametrize("name", FORMATS)
def test_an_allowed_format_decodes_exactly_as_plain_pillow(name: str) -> None:
    data = encode(noise(), name)

    decoded = DECODER.decode(data)

    assert decoded.dtype == np.uint8
    assert decoded.shape == (40, 60, 3)
    assert decoded.tobytes() == plain_pillow(data).tobytes()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(noise("L"), "JPEG"), id="grey jpeg"),
        pytest.param(encode(noise("CMYK"), "JPEG"), id="cmyk jpeg"),
        pytest.param(encode(noise(), "JPEG", progressive=True), id="progressive jpeg"),
        pytest.param(encode(noise("1"), "PNG"), id="one bit"),
        pytest.param(encode(noise("LA"), "PNG"), id="grey with alpha"),
        pytest.param(encode(noise("RGBA"), "WEBP"), id="webp with alpha"),
        pytest.param(encode(noise("P"), "PNG", transparency=3), id="palette with transparency"),
        pytest.param(encode(noise("P"), "GIF", transparency=3), id="gif with transparency"),
        pytest.param(
            encode(noise("P"), "PNG", transparency=bytes(range(256))), id="palette with alpha"
        ),
        pytest.param(encode(noise(), "JPEG", icc_profile=b"\0" * 1000), id="garbage profile"),
        pytest.param(encode(noise(), "JPEG") + b"PK\3\4" + b"\0" * 99, id="zip behind a jpeg"),
        pytest.param(encode(Image.new("RGB", (20, 20)), "PNG"), id="all black"),
        pytest.param(png_of_16_bits(2, (40_000, 1000, 65_535)), id="16-bit colour"),
        pytest.param(png_of_16_bits(6, (40_000, 1, 2, 32_768)), id="16-bit colour with alpha"),
    ],
)
def test_an_unusual_image_decodes_exactly_as_plain_pillow(data: bytes) -> None:
    assert DECODER.decode(data).tobytes() == plain_pillow(data).tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_tag_is_applied(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(noise(), name, exif=exif)

    decoded = DECODER.decode(data)

    assert decoded.shape == ((60, 40, 3) if orientation > 4 else (40, 60, 3))
    assert decoded.tobytes() == plain_pillow(data).tobytes()


@pytest.mark.parametrize(
    "tags", [b"garbage", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\1\3\0\1\0\0\0\x63"]
)
def test_broken_exif_is_ignored(tags: bytes) -> None:
    plain, tagged = (encode(noise(), "JPEG", exif=exif) for exif in (b"", b"Exif\0\0" + tags))

    assert DECODER.decode(tagged).tobytes() == DECODER.decode(plain).tobytes()


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    assert first_pixel(png_of_16_bits(0, [40_000])) == (156, 156, 156)


def test_transparent_sixteen_bit_grey_becomes_white() -> None:
    data = png_of_16_bits(0, [40_000], (b"tRNS", struct.pack(">H", 40_000)))

    assert first_pixel(data) == WHITE


@pytest.mark.parametrize(
    ("mode", "color"), [("RGBA", (255, 0, 0, 0)), ("LA", (9, 0))], ids=["RGBA", "LA"]
)
def test_a_hidden_colour_does_not_show_through(mode: str, color: tuple[int, ...]) -> None:
    assert first_pixel(encode(Image.new(mode, (8, 8), color), "PNG")) == WHITE


def bmp_with_alpha(pixel: bytes, header_size: int) -> bytes:
    """Return a BMP of 8 x 8 pixels of blue, green, red and alpha, with masks for all four."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", header_size, 8, 8, 1, 32, 3, 256, 0, 0, 0, 0) + masks
    header = header.ljust(header_size, b"\0")
    return struct.pack("<2sIHHI", b"BM", 270 + header_size, 0, 0, 14 + header_size) + header + pixel


@pytest.mark.parametrize("header_size", [56, 108, 124])
def test_a_bmp_whose_alpha_is_zero_everywhere_is_opaque(header_size: int) -> None:
    data = bmp_with_alpha(bytes((10, 20, 30, 0)) * 64, header_size)

    assert np.unique(DECODER.decode(data).reshape(-1, 3), axis=0).tolist() == [[30, 20, 10]]


@pytest.mark.parametrize("header_size", [56, 108, 124])
def test_the_alpha_of_a_bmp_counts_when_one_pixel_shows(header_size: int) -> None:
    pixels = bytes((10, 20, 30, 0)) * 63 + bytes((10, 20, 30, 255))

    decoded = DECODER.decode(bmp_with_alpha(pixels, header_size))

    # The rows of a BMP run from the bottom up.
    assert decoded[0, 7].tolist() == [30, 20, 10]
    assert tuple(decoded[7, 0].tolist()) == WHITE


@pytest.mark.parametrize(
    ("mode", "color"), [("RGB", (1, 2, 3)), ("L", 7), ("1", 0), ("P", 5)], ids=str
)
def test_a_colour_that_is_declared_transparent_becomes_white(mode: str, color: Any) -> None:
    image = Image.new(mode, (8, 8), color)
    if mode == "P":
        image.putpalette(range(30))
    data = encode(image, "PNG", transparency=color)

    assert first_pixel(data) == WHITE


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF"])
def test_only_the_first_frame_of_an_animation_is_taken(name: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    data = encode(frames[0], name, save_all=True, append_images=frames[1:], duration=100)

    red, green, blue = DECODER.decode(data).reshape(-1, 3).mean(axis=0)

    assert (red > 240, green < 15, blue < 15) == (True, True, True)


def test_the_decoder_hides_the_warnings_of_pillow_about_hostile_files() -> None:
    tags = b"Exif\0\0II*\0\xff\xff\xff\xff"
    file = encode(noise(), "JPEG", exif=tags).hex()
    code = "from product_consumer.images.decoder import ImageDecoder\n"
    code += f"ImageDecoder(10_000).decode(bytes.fromhex('{file}'))"

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=50, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_image_is_downloaded_once_more(name: str, kept: float) -> None:
    data = encode(noise(), name)

    with pytest.raises(ImageUnavailable) as caught:
        DECODER.decode(data[: int(len(data) * kept)])

    assert caught.value.reason == caught.value.final_reason == "image_truncated"
    assert caught.value.max_attempts == 2


def test_a_flipped_byte_in_a_png_is_corrupt() -> None:
    data = bytearray(encode(noise(), "PNG"))
    data[len(data) // 2] ^= 0xFF

    assert reason_of(bytes(data)) == "image_corrupt"


def test_a_png_whose_text_inflates_without_end_is_corrupt() -> None:
    bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 10_000_000))

    assert reason_of(png((8, 8), 8, 0, (b"\0" + b"x" * 8) * 8, bomb)) == "image_corrupt"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<!doctype html><title>404</title>", id="html"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg" width="1e9"/>', id="svg"),
        pytest.param(b"%PDF-1.7\n", id="pdf"),
        pytest.param(b"PK\3\4" + b"\0" * 100, id="zip"),
        pytest.param(b"\x1f\x8b\x08\0", id="gzip"),
        pytest.param(b"\0\0\0\x18ftypisom\0\0\0\0isommp42", id="mp4"),
    ],
)
def test_bytes_that_are_no_image_are_rejected_as_such(data: bytes) -> None:
    assert reason_of(data) == "not_an_image"


@pytest.mark.parametrize(
    "data",
    [
        *(
            pytest.param(encode(noise(), name), id=name)
            for name in ("TIFF", "ICO", "JPEG2000", "EPS")
        ),
        pytest.param(b"8BPS\0\1" + b"\0" * 100, id="PSD"),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 99, id="HEIC"),
        pytest.param(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + b"\0" * 99, id="HEIF"),
    ],
)
def test_an_image_of_another_format_is_rejected_by_its_format(data: bytes) -> None:
    assert reason_of(data) == "image_format"


def test_an_avif_is_known_by_any_of_its_brands() -> None:
    data = encode(noise(), "AVIF")
    renamed = data[:8] + b"mif1" + data[12:]

    assert DECODER.decode(renamed).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((1, 1), "image_too_small"),
        ((7, 100), "image_too_small"),
        ((1, 5000), "image_aspect"),
        ((1000, 49), "image_aspect"),
        ((1001, 1000), "image_pixels"),
    ],
)
def test_an_image_of_a_useless_size_is_rejected(size: tuple[int, int], reason: str) -> None:
    assert reason_of(encode(Image.new("RGB", size), "PNG")) == reason


@pytest.mark.parametrize("size", [(8, 8), (1000, 50), (50, 1000), (1000, 1000)])
def test_an_image_just_within_the_limits_is_decoded(size: tuple[int, int]) -> None:
    width, height = size
    decoded = DECODER.decode(encode(Image.new("RGB", size), "PNG"))
    assert decoded.shape == (height, width, 3)


@pytest.mark.parametrize("side", [12_000, 30_000])
def test_a_decompression_bomb_is_rejected_before_it_is_decoded(side: int) -> None:
    bomb = png((side, side), 1, 0, b"never inflated")

    assert reason_of(bomb, ImageDecoder(50_000_000)) == "image_pixels"


@pytest.mark.parametrize(
    "body",
    [
        b"VP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2,
        b"VP8L\x0a\0\0\0\x2f\xff\xff\xff\x0f" + b"\0" * 5,
        b"VP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f",
    ],
    ids=["extended", "lossless", "lossy"],
)
def test_a_webp_with_a_huge_canvas_is_rejected_before_it_is_opened(body: bytes) -> None:
    bomb = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body

    assert reason_of(bomb) == "image_pixels"


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}])
def test_the_size_in_a_webp_header_is_read_right(options: dict[str, Any]) -> None:
    data = encode(noise(size=(60, 40)), "WEBP", **options)

    assert ImageDecoder(60 * 40).decode(data).shape == (40, 60, 3)
    assert reason_of(data, ImageDecoder(60 * 40 - 1)) == "image_pixels"


def test_a_jpeg_of_endless_scans_is_rejected_before_it_is_decoded() -> None:
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"

    data = encode(noise(), "JPEG")[:-2] + scan * MAX_JPEG_SCANS + b"\xff\xd9"

    assert reason_of(data) == "image_corrupt"


def test_a_jpeg_of_endless_comments_is_rejected_before_it_is_decoded() -> None:
    data = encode(noise(), "JPEG")

    assert reason_of(data[:2] + b"\xff\xfe\0\2" * 100_000 + data[2:]) == "image_corrupt"


def test_running_out_of_memory_is_the_image_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("product_consumer.images.decoder.Image.open", fail)

    with pytest.raises(ImageRejected, match="image_corrupt: PNG: MemoryError"):
        DECODER.decode(encode(noise(), "PNG"))


def test_no_more_than_max_concurrent_images_are_decoded_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running, most, lock = 0, 0, threading.Lock()
    original = Image.open

    def counting_open(*arguments: Any, **options: Any) -> Image.Image:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1
        return original(*arguments, **options)

    monkeypatch.setattr("product_consumer.images.decoder.Image.open", counting_open)
    decoder = ImageDecoder(MAX_PIXELS, max_concurrent=2)
    data = encode(noise(), "PNG")
    threads = [threading.Thread(target=decoder.decode, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert most == 2


def test_many_threads_decode_the_same_image_alike() -> None:
    data = encode(noise(), "JPEG")
    expected = plain_pillow(data).tobytes()
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(DECODER.decode(data).tobytes()))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert results == [expected] * 10


SEEDS = [encode(noise(size=(16, 12)), name) for name in FORMATS]
SEEDS += [encode(noise("P", (16, 12)), "GIF", transparency=3), png_of_16_bits(0, [40_000])]
EDITS = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=6)), max_size=6)


def damaged(seed: bytes, edits: Sequence[tuple[int, bytes]], length: int) -> bytes:
    data = bytearray(seed)
    for position, replacement in edits:
        start = position % len(data)
        data[start : start + len(replacement)] = replacement
    return bytes(data[:length])


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SEEDS), EDITS, st.integers(1, 6000))
def test_any_damaged_image_gives_pixels_or_a_named_reason(
    seed: bytes, edits: Sequence[tuple[int, bytes]], length: int
) -> None:
    assert_pixels_or_reason(damaged(seed, edits, length))


@given(
    st.sampled_from([b"", *(seed[:12] for seed in SEEDS)]).flatmap(
        lambda start: st.binary(max_size=200).map(start.__add__)
    )
)
def test_any_bytes_give_pixels_or_a_named_reason(data: bytes) -> None:
    assert_pixels_or_reason(data)


def assert_pixels_or_reason(data: bytes) -> None:
    try:
        decoded = DECODER.decode(data)
    except (ImageRejected, ImageUnavailable) as error:
        assert error.reason.startswith(("image_", "not_an_image"))
    else:
        assert decoded.ndim == 3
        assert decoded.flags.writeable
