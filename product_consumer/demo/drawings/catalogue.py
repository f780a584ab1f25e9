"""The sample catalogue: products with made-up names and prices, and drawn images."""

import json
import random
from pathlib import Path
from typing import Any

from product_consumer.demo.drawings.drawing import COLOURS, KINDS, draw_product
from product_consumer.demo.drawings.wording import WORDING, product_name

_SIDE_PIXELS = 400
_CURRENCY = "EUR"
# Suffix and Pillow's options: the formats that shops really serve.
_FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("jpg", {"quality": 85}),
    ("jpg", {"quality": 92}),
    ("png", {}),
    ("webp", {"quality": 85}),
)


def draw_catalogue(directory: Path, seed: int, count: int = 72) -> list[dict[str, Any]]:
    """Write ``products.json`` and ``images/`` into ``directory``; return the products.

    Each product has ``id``, ``name``, ``price`` (text), ``currency``, ``image`` (a file name in
    ``images/``), ``category``, ``description``, ``rating`` and ``reviews_count``. The first 112
    products differ in kind or colour. The same ``seed`` and ``count`` give the same products;
    no seed draws an image of the model's training. Raises ValueError unless
    ``count`` is positive, OSError where the files cannot be written.
    """
    if count < 1:
        raise ValueError(f"count must be positive, not {count}")
    images = directory / "images"
    images.mkdir(parents=True, exist_ok=True)
    products = []
    for index, (kind, colour) in enumerate(assortment(seed, count)):
        # The word keeps these images apart from those drawn for training.
        rng = random.Random(f"catalogue {seed} {index}")  # noqa: S311 - drawings, not secrets
        product = _product(index, kind, colour, rng)
        options = dict(_FORMATS[index % len(_FORMATS)][1])
        image = draw_product(kind, colour, rng, _SIDE_PIXELS)
        image.save(images / product["image"], **options)
        products.append(product)
    text = json.dumps(products, indent=1, ensure_ascii=False)
    (directory / "products.json").write_text(text + "\n", encoding="utf-8")
    return products


def assortment(seed: int, count: int) -> list[tuple[str, str]]:
    """Return kinds in turn, so that any ``count`` covers them evenly, in shuffled colours."""
    rng = random.Random(f"assortment {seed}")  # noqa: S311
    colours = {kind: rng.sample(COLOURS, len(COLOURS)) for kind in KINDS}
    rounds = (divmod(index, len(KINDS)) for index in range(count))
    return [(KINDS[at], colours[KINDS[at]][turn % len(COLOURS)]) for turn, at in rounds]


def _product(index: int, kind: str, colour: str, rng: random.Random) -> dict[str, Any]:
    wording = WORDING[kind]
    product_id = f"demo-{index + 1:04d}"
    suffix = _FORMATS[index % len(_FORMATS)][0]
    name = product_name(kind, colour, rng)
    cents = rng.choice((0, 50, 90, 95, 99))
    return {
        "id": product_id,
        "name": name,
        "price": f"{rng.randint(*wording.price_range)}.{cents:02d}",
        "currency": _CURRENCY,
        "image": f"{product_id}.{suffix}",
        "category": wording.category,
        "description": f"{name}. From our {wording.category.lower()} department.",
        "rating": round(rng.uniform(3.2, 5.0), 1),
        "reviews_count": int(rng.expovariate(1 / 180)),
    }
