"""Raw pixels as RGB: grey is repeated, opacity is on white, and limits are those of pictures."""

import numpy as np
import pytest

from product_consumer.errors import ImageRejected
from product_consumer.streams.stages.pixels import pixels_of

MAX_PIXELS = 10_000


def test_colours_stay_as_they_are() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (10, 12, 3), dtype=np.uint8)

    read = pixels_of(pixels.tobytes(), (10, 12, 3), MAX_PIXELS)

    assert np.array_equal(read, pixels)
    assert read.flags.writeable


def test_grey_is_the_same_in_all_colours() -> None:
    grey = np.arange(120, dtype=np.uint8).reshape(10, 12)

    read = pixels_of(grey.tobytes(), (10, 12, 1), MAX_PIXELS)

    assert read.shape == (10, 12, 3)
    assert all(np.array_equal(read[..., channel], grey) for channel in range(3))


def test_what_is_see_through_is_white() -> None:
    pixels = np.zeros((10, 12, 4), np.uint8)
    pixels[0, 0] = (200, 100, 0, 255)
    pixels[0, 1] = (0, 0, 0, 128)

    read = pixels_of(pixels.tobytes(), (10, 12, 4), MAX_PIXELS)

    assert read[0, 0].tolist() == [200, 100, 0]
    assert read[0, 1].tolist() == [127, 127, 127]
    assert read[5, 5].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((101, 100, 3), "image_pixels"),
        ((7, 10, 3), "image_too_small"),
        ((8, 168, 3), "image_aspect"),
    ],
)
def test_the_limits_of_pictures_hold(shape: tuple[int, int, int], reason: str) -> None:
    with pytest.raises(ImageRejected) as caught:
        pixels_of(bytes(int(np.prod(shape))), shape, MAX_PIXELS)
    assert caught.value.reason == reason


def test_pixels_that_do_not_fit_exactly_are_refused() -> None:
    with pytest.raises(ImageRejected, match="image_size"):
        pixels_of(bytes(301), (10, 10, 3), MAX_PIXELS)
