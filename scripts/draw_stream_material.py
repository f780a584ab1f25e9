"""Makes what the producers send by default: ``python -m scripts.draw_stream_material``.

It writes ``producer/tabular_data.csv``, ``producer/images`` and ``producer/texts``. Every number
comes from a seed, so the same version draws the same material.
"""

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from product_consumer.demo.drawings.catalogue import assortment
from product_consumer.demo.drawings.drawing import draw_product
from product_consumer.demo.drawings.wording import WORDING, product_name

PRODUCER = Path(__file__).resolve().parent.parent / "producer"

ROWS, ANOMALIES = 800, 12
EMPTY_SHARE = 0.01
PICTURES, SIDE_PIXELS = 24, 224
TEXTS, SENTENCES = 4, 9
# Suffix and options of Pillow.
_FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("jpg", {"quality": 85}),
    ("webp", {"quality": 80}),
    ("jpg", {"quality": 75}),
)
_COLUMNS = ("sensor", "load", "temperature", "power", "vibration", "humidity", "pressure")
# Temperature and power follow the load, vibration and humidity follow both.
_SPREADS = {"temperature": 0.35, "power": 4.0, "vibration": 0.02, "humidity": 0.8, "pressure": 1.5}


def main() -> None:
    """Write all three, over what is there."""
    write_table(PRODUCER / "tabular_data.csv")
    draw_pictures(PRODUCER / "images")
    write_texts(PRODUCER / "texts")


def write_table(path: Path) -> None:
    """Write readings of sensors: a few are wrong, and some cells are empty."""
    draw = random.Random("tabular_data")  # noqa: S311 - a table, no secrets
    wrong = set(draw.sample(range(ROWS), ANOMALIES))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for number in range(ROWS):
            reading = _reading(draw)
            if number in wrong:
                _spoil(reading, draw)
            writer.writerow(_cells(reading, number, draw))


def draw_pictures(directory: Path) -> None:
    """Draw products, each of another kind or colour."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, (kind, colour) in enumerate(assortment(3, PICTURES)):
        suffix, options = _FORMATS[number % len(_FORMATS)]
        draw = random.Random(f"stream {number}")  # noqa: S311
        image = draw_product(kind, colour, draw, SIDE_PIXELS)
        image.save(directory / f"{colour}-{kind.replace(' ', '-')}.{suffix}", **options)


def write_texts(directory: Path) -> None:
    """Write short texts about products."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(1, TEXTS + 1):
        draw = random.Random(f"text {number}")  # noqa: S311
        text = "\n".join(_sentences(draw))
        (directory / f"shop-window-{number}.txt").write_text(f"{text}\n", encoding="utf-8")


def _reading(draw: random.Random) -> dict[str, float]:
    load = draw.uniform(0.1, 0.95)
    means = {
        "temperature": 21 + 9 * load,
        "power": 40 + 160 * load,
        "vibration": 0.1 + 0.6 * load,
        "humidity": 62 - 20 * load,
        "pressure": 1013.0,
    }
    noisy = {name: draw.gauss(mean, _SPREADS[name]) for name, mean in means.items()}
    return {"load": load, **noisy}


def _spoil(reading: dict[str, float], draw: random.Random) -> None:
    """Move one value far from what the others let expect."""
    name = draw.choice(("temperature", "power", "vibration", "humidity"))
    reading[name] += draw.choice((-1, 1)) * draw.uniform(8, 14) * _SPREADS[name]


def _cells(reading: dict[str, float], number: int, draw: random.Random) -> Iterator[str]:
    yield f"press-{number % 5 + 1}"
    for name in _COLUMNS[1:]:
        is_empty = draw.random() < EMPTY_SHARE
        yield "" if is_empty else f"{reading[name]:.3f}"


def _sentences(draw: random.Random) -> Iterator[str]:
    for kind, colour in assortment(draw.randrange(1000), SENTENCES):
        name = product_name(kind, colour, draw)
        price = draw.randint(*WORDING[kind].price_range)
        yield draw.choice(
            (
                f"{name}: new this week, for {price} euros.",
                f"The {colour} {draw.choice(WORDING[kind].nouns)} is back. Ask for it.",
                f"Only {draw.randint(2, 9)} left: {name}, {price} euros.",
            )
        )


if __name__ == "__main__":
    main()
