"""The demo's product messages: a catalogue as a crawler reports it, with some earlier prices."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from product_consumer.errors import ConfigurationError, InvalidMessage
from product_consumer.messages.prices import parse_price
from product_consumer.money import to_major

BROKEN_ON_PURPOSE = (
    '{"id": "broken-1", "name": "Half a message", "pri',
    json.dumps({"id": "broken-2", "name": "No price", "image_url": "http://127.0.0.1/x.jpg"}),
    json.dumps(
        {
            "id": "broken-3",
            "name": "Image at a forbidden address",
            "price": "9.99",
            "image_url": "http://169.254.169.254/latest/meta-data/",
        }
    ),
)

_CHANGED_EVERY = 6
_MOST_CHANGED = 12
_VERSION_FIELDS = {"version", "updated_at", "timestamp"}

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Earlier:
    """An earlier state of a product, relative to today."""

    timestamp: str
    price_percent: int
    reviews_percent: int
    fewer_stars: float


# Oldest first. The times are fixed, so that a second run of the demo adds no row for them.
_EARLIER = (
    _Earlier("2025-09-01T08:00:00+00:00", 120, 60, 0.3),
    _Earlier("2025-11-03T08:00:00+00:00", 90, 80, 0.1),
)


@dataclass(frozen=True, slots=True)
class ProductMessages:
    """Bodies in the order of sending, and the ids of the products that have three prices."""

    bodies: list[str]
    changed_ids: list[str]


def read_catalogue(folder: Path) -> list[Fields]:
    """Return the products of ``folder/products.json``; raises ``ConfigurationError``."""
    file = folder / "products.json"
    try:
        products = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError("--catalog", f"{file}: {error}") from error
    if not isinstance(products, list) or not all(isinstance(product, dict) for product in products):
        raise ConfigurationError("--catalog", f"{file} is not a list of products")
    if not products:
        raise ConfigurationError("--catalog", f"{file} lists no product")
    return products


def image_path(folder: Path, product: Fields) -> str:
    """Return the path of an entry's image in ``folder``: in ``images/``, else beside the list.

    There may be no such file.
    """
    name = str(product.get("image", ""))
    return f"images/{name}" if (folder / "images" / name).is_file() else name


def product_messages(
    products: list[Fields], folder: Path, image_port: int, default_currency: str
) -> ProductMessages:
    """Return one message per product, then two more for some, which have three prices then.

    Half of these products, the first among them, have their newest price sent first.
    """
    first: list[Fields] = []
    later: list[Fields] = []
    changed_ids: list[str] = []
    for number, product in enumerate(products):
        newest = _crawled(product, folder, image_port)
        may_change = number % _CHANGED_EVERY == 0 and len(changed_ids) < _MOST_CHANGED
        earlier = list(_earlier(product, newest, default_currency)) if may_change else []
        messages = [*earlier, newest] if len(changed_ids) % 2 else [newest, *earlier]
        if earlier:
            changed_ids.append(str(product.get("id")))
        first.append(messages[0])
        later += messages[1:]
    bodies = [json.dumps(message, ensure_ascii=False) for message in first + later]
    return ProductMessages(bodies, changed_ids)


def _crawled(product: Fields, folder: Path, image_port: int) -> Fields:
    """Return the message that a crawler would send for a catalogue entry."""
    message = {
        "store_url": f"https://shop.example/p/{quote(str(product.get('id')), safe='')}",
        "timestamp": datetime.now(UTC).isoformat(),
        **{key: value for key, value in product.items() if key != "image"},
        "image_url": f"http://127.0.0.1:{image_port}/{quote(image_path(folder, product))}",
    }
    if not isinstance(message.get("category"), str):
        message.pop("category", None)
    return message


def _earlier(product: Fields, newest: Fields, default_currency: str) -> Iterator[Fields]:
    """Yield earlier messages of a product, oldest first: none for a product that has no price, or
    a version of its own.
    """
    if not _VERSION_FIELDS.isdisjoint(product):
        return
    try:
        price = parse_price(newest.get("price"), newest.get("currency"), default_currency)
    except InvalidMessage:
        return
    if price is None:
        return
    for earlier in _EARLIER:
        amount = to_major(price.minor * earlier.price_percent // 100, price.currency)
        message = newest | {
            "timestamp": earlier.timestamp,
            "price": float(amount),
            "currency": price.currency,
        }
        rating, reviews_count = product.get("rating"), product.get("reviews_count")
        if isinstance(rating, float) and isinstance(reviews_count, int):
            message["rating"] = round(max(0.0, rating - earlier.fewer_stars), 1)
            message["reviews_count"] = reviews_count * earlier.reviews_percent // 100
        yield message
