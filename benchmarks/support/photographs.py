"""Drawn product photographs as JPEG bytes: no two are equal, the same seed gives the same."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

NOISE = 6.5
"""Standard deviation of the grain, in grey levels: 800 x 800 pixels become about 142 KB."""
QUALITY = 85
_START_OF_IMAGE = b"\xff\xd8"
_COMMENT = b"\xff\xfe"


class Photographs:
    """An endless series of photographs; ``get(n)`` returns the n-th as a JPEG file.

    Drawing takes 0.1 s, so ``distinct`` drawings are used again, each file with a comment of its
    own. Decoding them is equal work, and the digests of their bytes differ.
    """

    def __init__(self, distinct: int = 48, *, pixels: int = 800, seed: int = 5) -> None:
        self._drawn = [draw(pixels, seed * 1000 + number) for number in range(distinct)]

    def get(self, number: int) -> bytes:
        return with_comment(self._drawn[number % len(self._drawn)], f"photograph {number}")

    @property
    def mean_bytes(self) -> float:
        """Mean size of a file, without its comment."""
        return sum(map(len, self._drawn)) / len(self._drawn)


def draw(pixels: int, seed: int) -> bytes:
    """Draw a square scene of smooth light, shapes with soft edges and grain; JPEG, 4:2:0."""
    generator = np.random.default_rng(seed)
    light = generator.integers(60, 230, (5, 5, 3), dtype=np.uint8)
    scene = Image.fromarray(light).resize((pixels, pixels), Image.Resampling.BICUBIC)
    brush = ImageDraw.Draw(scene)
    for _ in range(14):
        x, y = generator.integers(0, pixels, 2).tolist()
        width, height = generator.integers(pixels // 16, pixels // 2, 2).tolist()
        colour = tuple(generator.integers(20, 250, 3).tolist())
        shape = brush.ellipse if generator.random() < 0.5 else brush.rectangle
        shape((x, y, x + width, y + height), fill=colour)
    soft = np.asarray(scene.filter(ImageFilter.GaussianBlur(2)), dtype=np.float32)
    # One value for all three channels: a sensor's grain after demosaicing is mostly brightness.
    grain = generator.normal(0, NOISE, (pixels, pixels, 1)).astype(np.float32)
    image = Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return file.getvalue()


def with_comment(jpeg: bytes, text: str) -> bytes:
    """Return the same image in other bytes; ``text``: ASCII, below 64 KB."""
    comment = text.encode("ascii")
    segment = _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment
    return _START_OF_IMAGE + segment + jpeg[len(_START_OF_IMAGE) :]
