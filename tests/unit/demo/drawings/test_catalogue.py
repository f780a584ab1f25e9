"""The sample catalogue: complete, varied, and the same every time."""

import json
import random
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from product_consumer.demo.drawings.catalogue import assortment, draw_catalogue
from product_consumer.demo.drawings.drawing import COLOURS, KINDS, draw_product
from product_consumer.demo.drawings.wording import WORDING, product_name


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("catalogue")
    draw_catalogue(directory, seed=5)
    return directory


def products_of(directory: Path) -> list[dict]:
    return json.loads((directory / "products.json").read_text(encoding="utf-8"))


def fingerprints(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_catalogue_has_at_least_60_products_in_10_categories(catalogue: Path) -> None:
    products = products_of(catalogue)

    assert len({product["id"] for product in products}) == len(products) >= 60
    assert len({product["category"] for product in products}) >= 10


def test_every_product_has_an_image_that_opens(catalogue: Path) -> None:
    for product in products_of(catalogue):
        with Image.open(catalogue / "images" / product["image"]) as image:
            image.load()
            assert image.size == (400, 400)
            assert image.mode == "RGB"


def test_images_come_in_the_formats_that_shops_serve(catalogue: Path) -> None:
    formats = set()
    for path in (catalogue / "images").iterdir():
        with Image.open(path) as image:
            formats.add(image.format)

    assert formats == {"JPEG", "PNG", "WEBP"}


def test_every_product_has_what_a_message_must_have(catalogue: Path) -> None:
    for product in products_of(catalogue):
        assert product["name"].strip()
        assert float(product["price"]) > 0
        assert 0 <= product["rating"] <= 5
        assert product["reviews_count"] >= 0


def test_names_say_kind_and_colour(catalogue: Path) -> None:
    products = products_of(catalogue)

    for product, (kind, colour) in zip(products, assortment(5, len(products)), strict=True):
        name = product["name"].lower()
        assert colour in name
        assert any(noun in name for noun in WORDING[kind].nouns)


def test_the_same_seed_draws_the_same_catalogue(tmp_path: Path) -> None:
    for name in ("first", "second"):
        draw_catalogue(tmp_path / name, seed=9, count=16)

    assert fingerprints(tmp_path / "first") == fingerprints(tmp_path / "second")


def test_another_seed_draws_other_images(tmp_path: Path) -> None:
    draw_catalogue(tmp_path / "first", seed=9, count=8)
    draw_catalogue(tmp_path / "second", seed=10, count=8)

    first, second = fingerprints(tmp_path / "first"), fingerprints(tmp_path / "second")
    assert not set(first.values()) & set(second.values())


def test_no_kind_and_colour_repeats_before_all_have_appeared() -> None:
    pairs = assortment(seed=3, count=len(KINDS) * len(COLOURS))

    assert set(Counter(pairs).values()) == {1}


def test_any_count_covers_the_kinds_evenly() -> None:
    counts = Counter(kind for kind, _ in assortment(seed=3, count=60))

    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_catalogue_without_products_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count must be positive"):
        draw_catalogue(tmp_path, seed=1, count=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fills_a_good_part_of_its_image_but_not_the_edge(kind: str) -> None:
    for attempt in range(4):
        image = draw_product(kind, "purple", random.Random(f"edge {kind} {attempt}"), 100)
        saturation = np.asarray(image.convert("HSV"))[:, :, 1]

        assert (saturation > 90).sum() > 400
        for edge in (saturation[0], saturation[-1], saturation[:, 0], saturation[:, -1]):
            assert edge.max() < 60


def test_an_unknown_kind_or_colour_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        draw_product("submarine", "red", random.Random(1))
    with pytest.raises(KeyError):
        draw_product("mug", "beige", random.Random(1))


def test_names_vary() -> None:
    rng = random.Random(2)

    assert len({product_name("mug", "red", rng) for _ in range(50)}) > 10
