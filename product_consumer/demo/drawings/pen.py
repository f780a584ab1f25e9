"""Outlines as lists of points, and a pen that fills them with a pattern and some shading.

Coordinates are not pixels: an image spans -1 to 1 in both directions, y points down.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

Point = tuple[float, float]
Rgb = tuple[int, int, int]

CREAM: Rgb = (250, 245, 235)
INK: Rgb = (52, 50, 58)
METAL: Rgb = (176, 180, 188)
WOOD: Rgb = (193, 150, 104)

_SMOOTHNESS = 8
# Drawn larger and then reduced, because Pillow's polygons have hard edges.
_OVERSAMPLING = 2


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """Return a colour between two: ``first`` at ``share`` 0, ``second`` at 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Tones:
    """One colour and its lighter and darker neighbours."""

    base: Rgb

    @property
    def light(self) -> Rgb:
        return mix(self.base, (255, 255, 255), 0.28)

    @property
    def dark(self) -> Rgb:
        return mix(self.base, (12, 8, 24), 0.22)

    @property
    def deep(self) -> Rgb:
        return mix(self.base, (12, 8, 24), 0.4)


def oval(
    x: float, y: float, x_radius: float, y_radius: float, start: float = 0, stop: float = 360
) -> list[Point]:
    """Return points of an ellipse from ``start`` to ``stop`` degrees, clockwise from the right."""
    steps = max(8, round(abs(stop - start) / 8))
    angles = (math.radians(start + (stop - start) * step / steps) for step in range(steps + 1))
    return [(x + x_radius * math.cos(a), y + y_radius * math.sin(a)) for a in angles]


def rounded(left: float, top: float, right: float, bottom: float, radius: float) -> list[Point]:
    """Return a rectangle with round corners."""
    corners = (
        (right - radius, bottom - radius, 0),
        (left + radius, bottom - radius, 90),
        (left + radius, top + radius, 180),
        (right - radius, top + radius, 270),
    )
    return [p for x, y, angle in corners for p in oval(x, y, radius, radius, angle, angle + 90)]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Return a closed Catmull-Rom curve through ``points``."""
    count = len(points)
    curve: list[Point] = []
    for index in range(count):
        around = [points[(index + shift) % count] for shift in (-1, 0, 1, 2)]
        curve.extend(_between(around, step / _SMOOTHNESS) for step in range(_SMOOTHNESS))
    return curve


def _between(around: Sequence[Point], t: float) -> Point:
    weights = (
        (-t + 2 * t**2 - t**3) / 2,
        (2 - 5 * t**2 + 3 * t**3) / 2,
        (t + 4 * t**2 - 3 * t**3) / 2,
        (t**3 - t**2) / 2,
    )
    x = sum(weight * point[0] for weight, point in zip(weights, around, strict=True))
    y = sum(weight * point[1] for weight, point in zip(weights, around, strict=True))
    return x, y


def mirrored(right_half: Sequence[Point]) -> list[Point]:
    """Return the outline whose right half is given from top to bottom."""
    return [*right_half, *((-x, y) for x, y in reversed(right_half))]


@dataclass(frozen=True, slots=True)
class Placement:
    """Position, size and rotation of the product on the image."""

    turn_degrees: float = 0.0
    scale: float = 0.8
    x: float = 0.0
    y: float = 0.0
    flipped: bool = False


class Pen:
    """A pen that draws filled outlines on a transparent square; for one thread."""

    def __init__(self, size_pixels: int, placement: Placement, rng: random.Random) -> None:
        self._pixels = size_pixels * _OVERSAMPLING
        self._placement = placement
        self._rng = rng
        self._layer = Image.new("RGBA", (self._pixels, self._pixels))
        self._draw = ImageDraw.Draw(self._layer)

    def image(self) -> Image.Image:
        """Return the drawing so far: RGBA, ``size_pixels`` square."""
        return self._layer.reduce(_OVERSAMPLING)

    def fill(self, points: Sequence[Point], colour: Rgb) -> None:
        """Fill an outline with one flat colour."""
        self._draw.polygon(self._placed(points), fill=colour)

    def stroke(self, points: Sequence[Point], colour: Rgb, width: float) -> None:
        """Draw a line with round ends; ``width`` in the units of the coordinates."""
        placed = self._placed(points)
        pixels = max(1, round(width * self._placement.scale * self._pixels / 2))
        self._draw.line(placed, fill=colour, width=pixels, joint="curve")
        for x, y in (placed[0], placed[-1]):
            r = pixels / 2
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def body(self, points: Sequence[Point], tones: Tones, plain: bool = False) -> None:
        """Fill an outline with the base colour and a random pattern, darker towards one side."""
        mask = Image.new("L", self._layer.size)
        ImageDraw.Draw(mask).polygon(self._placed(points), fill=255)
        surface = Image.new("RGB", self._layer.size, tones.base)
        # "RGBA" on an RGB image blends; on an RGBA image it would replace.
        brush = ImageDraw.Draw(surface, "RGBA")
        if not plain:
            for outline, colour in _pattern(self._rng, tones):
                brush.polygon(self._placed(outline), fill=colour)
        xs = [x for x, _ in points]
        left, width = min(xs), max(xs) - min(xs)
        for share in (0.68, 0.8, 0.9):
            edge = left + width * share
            shaded = [(edge, -2.0), (2.0, -2.0), (2.0, 2.0), (edge, 2.0)]
            brush.polygon(self._placed(shaded), fill=(20, 12, 30, 16))
        gleam = [
            (left + width * share, y) for share, y in ((0.1, -2), (0.2, -2), (0.2, 2), (0.1, 2))
        ]
        brush.polygon(self._placed(gleam), fill=(255, 255, 255, 44))
        self._layer.paste(surface, mask=mask)

    def _placed(self, points: Sequence[Point]) -> list[Point]:
        where = self._placement
        angle = math.radians(where.turn_degrees)
        cos, sin = math.cos(angle) * where.scale, math.sin(angle) * where.scale
        side = -1 if where.flipped else 1
        half = self._pixels / 2
        return [
            (
                half * (1 + where.x + side * x * cos - y * sin),
                half * (1 + where.y + side * x * sin + y * cos),
            )
            for x, y in points
        ]


def _pattern(rng: random.Random, tones: Tones) -> list[tuple[list[Point], Rgb]]:
    """Return outlines over the whole image; the caller cuts them to the product's outline."""
    kind = rng.choice(("plain", "plain", "plain", "stripes", "bars", "dots", "band", "slanted"))
    ink = rng.choice((tones.light, tones.dark, mix(tones.light, CREAM, 0.45)))
    pitch = rng.uniform(0.2, 0.34)
    rows = [-1.2 + pitch * step for step in range(int(2.4 / pitch) + 1)]
    half = pitch * rng.uniform(0.16, 0.26)
    if kind == "stripes":
        return [
            ([(-1.5, y - half), (1.5, y - half), (1.5, y + half), (-1.5, y + half)], ink)
            for y in rows
        ]
    if kind == "bars":
        return [
            ([(x - half, -1.5), (x - half, 1.5), (x + half, 1.5), (x + half, -1.5)], ink)
            for x in rows
        ]
    if kind == "slanted":
        return [
            (
                [
                    (x - half - 1, -1.5),
                    (x - half + 1, 1.5),
                    (x + half + 1, 1.5),
                    (x + half - 1, -1.5),
                ],
                ink,
            )
            for x in (*rows, *(row + 2.4 for row in rows), *(row - 2.4 for row in rows))
        ]
    if kind == "dots":
        shifts = [(row, pitch / 2 * (index % 2)) for index, row in enumerate(rows)]
        return [(oval(x + shift, y, half, half), ink) for y, shift in shifts for x in rows]
    if kind == "band":
        y = rng.uniform(-0.1, 0.3)
        return [([(-1.5, y), (1.5, y), (1.5, y + pitch), (-1.5, y + pitch)], ink)]
    return []
