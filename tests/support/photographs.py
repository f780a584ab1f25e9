"""Drawn images with the grain, edges and soft areas of a photograph, and JPEG files of them."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw


def draw_photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Draw detail of every size, from the whole image to single pixels, with shapes and text."""
    generator = np.random.default_rng(seed)
    layers = np.zeros((height, width, 3))
    for cells in (4, 16, 64, 256, 1024):
        shape = (min(cells, height), min(cells, width), 3)
        noise = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
        # In natural images finer detail has less contrast.
        layers += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / cells**0.7
    layers *= 255 / layers.max()
    image = Image.fromarray(layers.astype(np.uint8))
    brush = ImageDraw.Draw(image)
    for _ in range(10):
        x, y = int(generator.integers(width)), int(generator.integers(height))
        radius, colour = int(generator.integers(2, 120)), tuple(generator.integers(0, 256, 3))
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        brush.rectangle((x, y, x + radius, y + radius), outline=colour, width=2)
        brush.text((x, y), "SALE -50 %", fill=colour)
    return image


def jpeg_of(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **({"quality": 88, "subsampling": "4:2:0"} | options))
    return file.getvalue()
