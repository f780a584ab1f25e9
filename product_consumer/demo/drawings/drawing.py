"""Draws product images: kind and colour are given, everything else is random."""

import colorsys
import random

from PIL import Image, ImageDraw, ImageFilter

from product_consumer.demo.drawings.pen import Pen, Placement, Rgb, Tones, mix
from product_consumer.demo.drawings.shapes import DRAWINGS

_COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    # Hue in degrees, then saturation and value: each a range to draw from.
    "red": ((-6, 5), (0.76, 0.9), (0.74, 0.9)),
    "orange": ((23, 31), (0.8, 0.92), (0.92, 0.99)),
    "yellow": ((46, 54), (0.68, 0.85), (0.93, 1.0)),
    "green": ((110, 150), (0.45, 0.7), (0.5, 0.72)),
    "blue": ((205, 226), (0.62, 0.82), (0.62, 0.86)),
    "purple": ((266, 283), (0.45, 0.64), (0.54, 0.74)),
    "pink": ((332, 347), (0.34, 0.5), (0.93, 1.0)),
    "black": ((200, 300), (0.04, 0.14), (0.15, 0.24)),
}
_BACKGROUNDS: tuple[Rgb, ...] = (
    (247, 247, 247),
    (250, 244, 234),
    (237, 243, 250),
    (240, 247, 240),
    (249, 240, 243),
    (240, 238, 247),
    (255, 255, 255),
)
KINDS = tuple(DRAWINGS)
COLOURS = tuple(_COLOURS)


def draw_product(kind: str, colour: str, rng: random.Random, size_pixels: int = 400) -> Image.Image:
    """Return a square RGB image of a product on a light background, without any text.

    ``kind`` is one of ``KINDS``, ``colour`` one of ``COLOURS`` (KeyError otherwise). The same
    state of ``rng`` draws the same image.
    """
    tones = Tones(_shade(colour, rng))
    placement = Placement(
        turn_degrees=rng.uniform(-9, 9),
        scale=rng.uniform(0.62, 0.8),
        x=rng.uniform(-0.07, 0.07),
        y=rng.uniform(-0.08, 0.08),
        flipped=rng.random() < 0.5,
    )
    pen = Pen(size_pixels, placement, rng)
    DRAWINGS[kind](pen, tones, rng)
    product = pen.image()
    image = _background(rng, product)
    image.paste(product, mask=product)
    return image


def _shade(colour: str, rng: random.Random) -> Rgb:
    hue, saturation, value = (rng.uniform(*span) for span in _COLOURS[colour])
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _background(rng: random.Random, product: Image.Image) -> Image.Image:
    """Return a plain wall, with the product's shadow on the floor."""
    # A small gradient and shadow, enlarged: both are soft, so no detail is lost.
    small = 64
    left, _, right, bottom = (
        side * small / product.width for side in product.getbbox() or (0, 0, *product.size)
    )
    wall = rng.choice(_BACKGROUNDS)
    floor = mix(wall, (60, 50, 70), rng.uniform(0.02, 0.09))
    image = Image.new("RGB", (small, small))
    draw = ImageDraw.Draw(image)
    for y in range(small):
        draw.line((0, y, small, y), fill=mix(wall, floor, y / small))
    margin = (right - left) * rng.uniform(0.0, 0.12)
    shadow = (left + margin, bottom - 3.5, right - margin, bottom + 2)
    draw.ellipse(shadow, fill=mix(floor, (50, 40, 60), rng.uniform(0.15, 0.28)))
    image = image.filter(ImageFilter.GaussianBlur(1.4))
    return image.resize(product.size, Image.Resampling.BICUBIC)
