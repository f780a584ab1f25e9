"""One function per kind of product: its outline, and its random variations."""

import math
import random
from collections.abc import Callable

from product_consumer.demo.drawings.pen import (
    CREAM,
    INK,
    METAL,
    WOOD,
    Pen,
    Point,
    Rgb,
    Tones,
    mirrored,
    mix,
    oval,
    rounded,
    smooth,
)

_LEAF_GREENS: tuple[Rgb, ...] = ((86, 148, 92), (112, 168, 96), (72, 128, 98))


def _mug(pen: Pen, tones: Tones, rng: random.Random) -> None:
    width, foot = rng.uniform(0.5, 0.62), rng.uniform(0.4, 0.6)
    middle = rng.uniform(-0.05, 0.12)
    pen.stroke(oval(width, middle, 0.36, 0.4, -95, 95), tones.dark, 0.15)
    side: list[Point] = [(width, -0.65), (width, 0.4), (foot, 0.85)]
    pen.body([*mirrored(side)[:3], *oval(0, 0.82, foot, 0.1, 0, 180), *mirrored(side)[3:]], tones)
    pen.fill(oval(0, -0.65, width, 0.14), tones.light)
    pen.fill(oval(0, -0.64, width - 0.06, 0.1), rng.choice((CREAM, tones.deep, (92, 62, 46))))


def _bottle(pen: Pen, tones: Tones, rng: random.Random) -> None:
    width, shoulder = rng.uniform(0.28, 0.38), rng.uniform(-0.45, -0.25)
    neck = rng.uniform(0.11, 0.15)
    side: list[Point] = [(neck, -0.8), (neck, shoulder - 0.15)]
    curve = oval(width - 0.12, shoulder + 0.1, 0.12, 0.16, -75, 0)
    pen.body(
        mirrored([*side, *curve, (width, 0.84), (width - 0.06, 0.92)]),
        tones,
    )
    cap = rng.choice((METAL, INK, tones.deep, WOOD))
    pen.fill(rounded(-neck - 0.04, -0.98, neck + 0.04, -0.78, 0.04), cap)
    if rng.random() < 0.4:
        pen.fill(rounded(-0.17, 0.1, 0.17, 0.5, 0.05), CREAM)
        pen.fill(oval(0, 0.3, 0.09, 0.09), tones.dark)


def _t_shirt(pen: Pen, tones: Tones, rng: random.Random) -> None:
    sleeve, waist = rng.uniform(0.88, 1.0), rng.uniform(0.46, 0.54)
    drop = rng.uniform(-0.3, -0.12)
    right: list[Point] = [
        (0.22, -0.8),
        (0.55, -0.68),
        (sleeve, drop),
        (sleeve - 0.28, drop + 0.2),
        (waist + 0.02, -0.22),
        (waist, 0.85),
    ]
    collar = oval(0, -0.8, 0.22, rng.uniform(0.16, 0.34), 180, 0)
    pen.body([*collar, *mirrored(right)], tones)
    pen.stroke(collar, tones.dark, 0.06)
    pen.stroke([(waist + 0.02, -0.22), (waist, 0.1)], tones.dark, 0.02)
    pen.stroke([(-waist - 0.02, -0.22), (-waist, 0.1)], tones.dark, 0.02)
    if rng.random() < 0.3:
        pen.fill(oval(0, -0.05, 0.2, 0.2), rng.choice((CREAM, tones.light)))


def _shoe(pen: Pen, tones: Tones, rng: random.Random) -> None:
    toe, ankle = rng.uniform(0.14, 0.24), rng.uniform(-0.5, -0.34)
    outline: list[Point] = [
        (-0.88, 0.42),
        (-0.9, 0.0),
        (-0.84, ankle),
        (-0.5, ankle + 0.1),
        (-0.22, ankle - 0.02),
        (0.1, 0.0),
        (0.55, toe - 0.05),
        (0.9, toe + 0.12),
        (0.94, 0.42),
    ]
    pen.body(smooth(outline), tones)
    pen.fill(oval(0.94 - 0.18, 0.3, 0.2, 0.17, -100, 90), tones.dark)
    pen.fill(rounded(-0.95, 0.36, 0.99, 0.56, 0.09), rng.choice((CREAM, CREAM, METAL)))
    pen.stroke([(-0.9, 0.5), (0.94, 0.5)], rng.choice((tones.base, METAL, INK)), 0.04)
    for step in range(rng.randint(3, 4)):
        x, y = -0.2 + step * 0.14, ankle + 0.16 + step * 0.1
        pen.stroke([(x, y), (x - 0.12, y + 0.14)], CREAM, 0.05)


def _bag(pen: Pen, tones: Tones, rng: random.Random) -> None:
    top, height = rng.uniform(0.5, 0.66), rng.uniform(-0.3, -0.14)
    arch = rng.uniform(0.45, 0.62)
    handle = rng.choice((tones.deep, tones.dark, (122, 82, 56)))
    pen.stroke(oval(0, height, 0.32, arch, 180, 360), handle, 0.09)
    right: list[Point] = [(top, height), (top + 0.2, 0.72), (top + 0.1, 0.86)]
    pen.body(mirrored(right), tones)
    if rng.random() < 0.5:
        flap = [(-top, height), (top, height), (top - 0.06, 0.2), (0.0, 0.36), (-top + 0.06, 0.2)]
        pen.fill(flap, tones.dark)
        pen.fill(oval(0, 0.3, 0.08, 0.08), (226, 190, 110))
    else:
        pen.stroke([(-top, height), (top, height)], tones.dark, 0.07)


def _lamp(pen: Pen, tones: Tones, rng: random.Random) -> None:
    stand = rng.choice((WOOD, METAL, INK))
    top, wide = rng.uniform(0.26, 0.42), rng.uniform(0.6, 0.72)
    hem = rng.uniform(-0.12, 0.06)
    pen.stroke([(0, -0.1), (0, 0.82)], stand, 0.1)
    if rng.random() < 0.5:
        pen.fill(oval(0, 0.45, 0.16, 0.26), mix(stand, INK, 0.12))
    pen.fill(oval(0, 0.86, rng.uniform(0.32, 0.44), 0.1), mix(stand, INK, 0.2))
    pen.fill(oval(0, hem, wide, 0.09), (255, 232, 170))
    pen.body([(-top, -0.9), (top, -0.9), *oval(0, hem, wide, 0.07, 0, 180)], tones)
    pen.fill(oval(0, -0.9, top, 0.05), tones.dark)


def _chair(pen: Pen, tones: Tones, rng: random.Random) -> None:
    legs = rng.choice((WOOD, mix(WOOD, INK, 0.35), METAL))
    width, spread = rng.uniform(0.46, 0.54), rng.uniform(0.02, 0.14)
    back = rng.uniform(0.1, 0.24)
    for side in (-1, 1):
        pen.stroke(
            [(side * (width - 0.1), 0.2), (side * (width - 0.08), 0.74)], mix(legs, INK, 0.25), 0.07
        )
        pen.stroke([(side * width, 0.25), (side * (width + spread), 0.94)], legs, 0.09)
        pen.stroke([(side * (width - 0.1), -0.2), (side * (width - 0.1), 0.2)], legs, 0.08)
    pen.body(rounded(-width, -0.95, width, -0.1, back), tones)
    seat = [(-width + 0.05, 0.1), (width - 0.05, 0.1), (width + 0.12, 0.3), (-width - 0.12, 0.3)]
    pen.fill(seat, tones.light)
    pen.fill(rounded(-width - 0.12, 0.27, width + 0.12, 0.4, 0.06), tones.dark)


def _clock(pen: Pen, tones: Tones, rng: random.Random) -> None:
    rim = rng.uniform(0.6, 0.7)
    if rng.random() < 0.5:
        for side in (-1, 1):
            pen.stroke([(side * 0.4, 0.6), (side * 0.6, 0.92)], tones.deep, 0.12)
            pen.fill(oval(side * 0.5, -0.72, 0.24, 0.2), tones.dark)
    pen.body(oval(0, 0, 0.86, 0.86), tones, plain=True)
    pen.fill(
        oval(0, 0, rim, rim), rng.choice((CREAM, (255, 255, 255), mix(tones.light, CREAM, 0.8)))
    )
    for hour in range(12):
        angle = math.radians(hour * 30)
        reach = (rim - 0.08, rim - (0.2 if hour % 3 == 0 else 0.14))
        pen.stroke([(r * math.cos(angle), r * math.sin(angle)) for r in reach], INK, 0.035)
    for length, width in ((0.34, 0.07), (0.5, 0.05)):
        angle = rng.uniform(0, 2 * math.pi)
        pen.stroke([(0, 0), (length * math.cos(angle), length * math.sin(angle))], INK, width)
    pen.fill(oval(0, 0, 0.06, 0.06), tones.base)


def _book(pen: Pen, tones: Tones, rng: random.Random) -> None:
    width, thick = rng.uniform(0.55, 0.64), rng.uniform(0.12, 0.22)
    left, right = -width, width - thick / 2
    pen.fill([(left, 0.9), (right, 0.9), (right + thick, 0.8), (left + thick, 0.8)], tones.deep)
    pages = [(right, -0.9), (right + thick, -0.8), (right + thick, 0.8), (right, 0.9)]
    pen.fill(pages, CREAM)
    for share in (0.3, 0.6):
        x = right + thick * share
        pen.stroke([(x, -0.84 + share * 0.06), (x, 0.84 - share * 0.06)], METAL, 0.012)
    pen.body([(left, -0.9), (right, -0.9), (right, 0.9), (left, 0.9)], tones)
    pen.fill([(left, -0.9), (left + 0.16, -0.9), (left + 0.16, 0.9), (left, 0.9)], tones.dark)
    middle = (left + 0.16 + right) / 2
    if rng.random() < 0.6:
        pen.fill(rounded(middle - 0.28, -0.6, middle + 0.28, -0.2, 0.03), CREAM)
        pen.stroke([(middle - 0.16, -0.4), (middle + 0.16, -0.4)], tones.dark, 0.05)
    else:
        pen.fill(oval(middle, -0.05, 0.24, 0.24), rng.choice((CREAM, tones.light)))


def _hat(pen: Pen, tones: Tones, rng: random.Random) -> None:
    brim, crown = rng.uniform(0.86, 0.98), rng.uniform(0.44, 0.54)
    height = rng.uniform(-0.7, -0.45)
    pen.fill(oval(0, 0.36, brim, 0.24), tones.dark)
    pen.fill(oval(0, 0.32, brim, 0.22), tones.base)
    dome: list[Point] = [
        (crown * 0.55, height),
        (crown * 0.92, height + 0.2),
        (crown, 0.3),
    ]
    outline = mirrored(dome)
    pen.body(
        [
            *oval(0, height + 0.06, crown * 0.7, 0.12, 190, 350),
            *outline[1:3],
            *oval(0, 0.3, crown, 0.1, 0, 180),
            *outline[3:5],
        ],
        tones,
    )
    ribbon = rng.choice((tones.deep, CREAM, tones.deep))
    pen.stroke(oval(0, 0.17, crown - 0.03, 0.1, 2, 178), ribbon, 0.13)


def _umbrella(pen: Pen, tones: Tones, rng: random.Random) -> None:
    stick = rng.choice((WOOD, METAL, INK))
    pen.stroke([(0, -0.95), (0, 0.7), *reversed(oval(0.14, 0.7, 0.14, 0.2, 0, 180))], stick, 0.06)
    panels = rng.choice((4, 5, 6))
    edge = 1.88 / panels
    hem = [
        p
        for i in range(panels)
        for p in oval(0.94 - edge * (i + 0.5), 0.1, edge / 2, 0.12, 0, -180)
    ]
    pen.body([*oval(0, 0.1, 0.94, rng.uniform(0.84, 0.98), 180, 360), *hem], tones)
    for step in range(1, panels):
        foot = -0.94 + edge * step
        pen.stroke([(0, -0.78), (foot * 0.68, -0.42), (foot, 0.1)], tones.dark, 0.025)


def _headphones(pen: Pen, tones: Tones, rng: random.Random) -> None:
    reach, thick = rng.uniform(0.64, 0.74), rng.uniform(0.12, 0.18)
    pen.stroke(oval(0, 0.05, reach, 0.85, 180, 360), tones.dark, thick)
    pen.stroke(oval(0, 0.05, reach - 0.02, 0.82, 215, 325), tones.light, thick / 3)
    cushion = rng.choice((INK, METAL, tones.deep))
    for side in (-1, 1):
        inner = side * (reach - 0.14)
        pen.fill(oval(inner, 0.34, 0.15, 0.34), cushion)
        pen.body(oval(side * (reach + 0.04), 0.34, 0.19, 0.4), tones, plain=True)
        pen.fill(oval(side * (reach + 0.06), 0.34, 0.07, 0.17), tones.light)


def _plant_pot(pen: Pen, tones: Tones, rng: random.Random) -> None:
    leaves = rng.randint(5, 8)
    for index in range(leaves):
        lean = -0.62 + 1.24 * index / (leaves - 1) + rng.uniform(-0.06, 0.06)
        tip = (lean * 1.15, -0.9 + abs(lean) * 0.55 + rng.uniform(-0.06, 0.06))
        middle = (lean * 0.55, tip[1] * 0.45)
        wide = rng.uniform(0.07, 0.13)
        leaf = [
            (0.0, 0.1),
            (middle[0] - wide, middle[1]),
            tip,
            (middle[0] + wide, middle[1] + 0.06),
        ]
        pen.fill(smooth(leaf), rng.choice(_LEAF_GREENS))
    top, foot = rng.uniform(0.52, 0.6), rng.uniform(0.3, 0.42)
    pen.body(mirrored([(top - 0.04, 0.1), (foot, 0.88), (foot - 0.06, 0.94)]), tones)
    pen.fill(rounded(-top - 0.02, -0.02, top + 0.02, 0.2, 0.05), tones.dark)


def _toy_car(pen: Pen, tones: Tones, rng: random.Random) -> None:
    front, back = rng.uniform(0.3, 0.42), rng.uniform(-0.62, -0.48)
    roof = rng.uniform(-0.5, -0.38)
    glass = (196, 222, 238)
    cabin: list[Point] = [(back - 0.16, 0.0), (back, roof), (0.16, roof), (front + 0.06, 0.0)]
    pen.fill([*cabin], tones.dark)
    panes: list[Point] = [
        (back, -0.02),
        (back + 0.08, roof + 0.08),
        (-0.2, roof + 0.08),
        (-0.2, -0.02),
    ]
    pen.fill(panes, glass)
    pen.fill(
        [(-0.12, -0.02), (-0.12, roof + 0.08), (0.12, roof + 0.08), (front - 0.06, -0.02)], glass
    )
    pen.body(rounded(-0.95, -0.04, 0.95, 0.46, 0.16), tones)
    pen.fill(oval(0.9, 0.14, 0.06, 0.08), (255, 232, 150))
    for x in (-0.52, 0.52):
        pen.fill(oval(x, 0.46, 0.25, 0.25), INK)
        pen.fill(oval(x, 0.46, 0.12, 0.12), rng.choice((METAL, CREAM)))


DRAWINGS: dict[str, Callable[[Pen, Tones, random.Random], None]] = {
    "mug": _mug,
    "bottle": _bottle,
    "t-shirt": _t_shirt,
    "shoe": _shoe,
    "bag": _bag,
    "lamp": _lamp,
    "chair": _chair,
    "clock": _clock,
    "book": _book,
    "hat": _hat,
    "umbrella": _umbrella,
    "headphones": _headphones,
    "plant pot": _plant_pot,
    "toy car": _toy_car,
}
