"""A catalogue as the demo sends it: every product once, some at three prices."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from product_consumer.demo.product_messages import product_messages, read_catalogue
from product_consumer.errors import ConfigurationError
from product_consumer.models import Message, Product
from product_consumer.products.parser import ProductParser


def entry(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"id-{number}",
        "name": f"Thing {number}",
        "price": f"{10 + number}.90",
        "currency": "EUR",
        "image": f"{number}.jpg",
    } | fields


def sent(products: list[dict[str, Any]], folder: Path = Path("/nowhere")) -> list[dict[str, Any]]:
    return [json.loads(body) for body in product_messages(products, folder, 80, "USD").bodies]


def parsed(messages: list[dict[str, Any]]) -> dict[str, list[Product]]:
    """What the worker makes of the messages, by product id, in the order sent."""
    parser = ProductParser(default_currency="USD", source_timezone="UTC")
    by_id = defaultdict(list)
    for number, message in enumerate(messages):
        delivered = Message(str(number), "receipt", json.dumps(message), 1, datetime.now(UTC))
        product = parser.parse(delivered)
        by_id[product.id].append(product)
    return by_id


def test_every_product_is_sent_and_some_at_three_prices() -> None:
    products = [entry(number) for number in range(72)]
    messages = product_messages(products, Path("/nowhere"), 80, "USD")

    assert len(messages.bodies) == 72 + 24
    assert len(messages.changed_ids) == 12
    by_id = parsed([json.loads(body) for body in messages.bodies])
    assert {len(by_id[changed]) for changed in messages.changed_ids} == {3}
    assert all(
        len({product.price_minor for product in by_id[product_id]}) == 3
        for product_id in messages.changed_ids
    )


def test_the_newest_price_is_that_of_the_catalogue() -> None:
    for versions in parsed(sent([entry(number) for number in range(13)])).values():
        newest = max(versions, key=lambda product: product.version)
        assert newest.price_minor == 1090 + 100 * int(newest.id.removeprefix("id-"))
        assert newest.observed_at > datetime.now(UTC) - timedelta(minutes=5)


def test_the_first_product_is_sent_newest_first_and_the_next_one_oldest_first() -> None:
    by_id = parsed(sent([entry(number) for number in range(13)]))

    late, in_order = by_id["id-0"], by_id["id-6"]
    assert max(late, key=lambda product: product.observed_at) is late[0]
    assert in_order == sorted(in_order, key=lambda product: product.observed_at)


def test_further_prices_come_after_every_product_was_sent_once() -> None:
    messages = sent([entry(number) for number in range(13)])

    assert [message["id"] for message in messages[:13]] == [f"id-{n}" for n in range(13)]


def test_ratings_and_reviews_grow_with_time() -> None:
    [versions] = parsed(sent([entry(0, rating=4.6, reviews_count=100)])).values()
    oldest_first = sorted(versions, key=lambda product: product.observed_at)

    assert [product.reviews_count for product in oldest_first] == [60, 80, 100]
    ratings = [product.rating for product in oldest_first]
    assert ratings == [4.3, 4.5, 4.6]


def test_a_second_run_says_the_same_of_the_past() -> None:
    first, second = sent([entry(0)]), sent([entry(0)])

    assert [message["timestamp"] for message in first[1:]] == [
        message["timestamp"] for message in second[1:]
    ]
    assert first[1:] == second[1:]


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 3},
        {"updated_at": "2024-01-01"},
        {"timestamp": None},
        {"price": "free"},
        {"price": "one or two"},
        {"price": None},
    ],
)
def test_a_product_with_its_own_version_or_without_a_price_is_sent_once(
    fields: dict[str, Any],
) -> None:
    messages = product_messages([entry(0, **fields)], Path("/nowhere"), 80, "USD")

    assert len(messages.bodies) == 1
    assert messages.changed_ids == []


def test_a_price_without_a_currency_is_of_the_default_one() -> None:
    fields = entry(0, price="1.299.000")
    del fields["currency"]
    bodies = product_messages([fields], Path("/nowhere"), 80, "VND").bodies
    earlier = [json.loads(body) for body in bodies[1:]]

    assert [(message["price"], message["currency"]) for message in earlier] == [
        (1_558_800.0, "VND"),
        (1_169_100.0, "VND"),
    ]


def test_an_image_is_looked_for_in_images_and_beside_the_list(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.jpg").touch()
    within, beside = sent([entry(0), entry(1, image="a b.jpg")], tmp_path)[:2]

    assert within["image_url"] == "http://127.0.0.1:80/images/0.jpg"
    assert beside["image_url"] == "http://127.0.0.1:80/a%20b.jpg"
    assert "image" not in within


@pytest.mark.parametrize("text", [None, "{", "{}", "[]", "[1]"])
def test_a_catalogue_that_is_none_is_a_configuration_error(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "products.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"products\.json"):
        read_catalogue(tmp_path)
