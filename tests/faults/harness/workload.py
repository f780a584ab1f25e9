"""The messages of a producer: products in many versions, duplicated, shuffled, some broken."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

IMAGE_COUNT = 8
_FIRST_EVENT = datetime(2024, 1, 1, tzinfo=UTC)
_SHOP = "https://shop.example/p"

POISON: dict[str, str] = {
    "json_invalid": '{"id": "half',
    "json_not_object": '["a", "list"]',
    "missing:name": '{"id": "no-name", "price": "1 VND", "image_url": "IMAGE"}',
    "price_invalid": '{"id": "no-number", "name": "x", "price": "call us", "image_url": "IMAGE"}',
    "image_url_blocked_address": (
        '{"id": "inside", "name": "x", "price": "1 VND", "image_url": "http://169.254.169.254/"}'
    ),
}
"""Bodies that can never succeed, by the reason that they must be rejected with."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One message as its producer knows it.

    ``poison``: the reason that it must be rejected with; the other fields are empty then.
    ``image_number``: names a file on the image host, and decides the image embedding.
    """

    body: str
    poison: str = ""
    product_id: str = ""
    version: int = 0
    deleted: bool = False
    name: str = ""
    price: int = 0
    rating: float = 0.0
    reviews_count: int = 0
    image_number: int = 0
    image_url: str = ""

    @property
    def observed_at(self) -> datetime:
        """The event time that the body carries."""
        return event_time(self.version)

    @property
    def payload_hash(self) -> str:
        """Decides between two messages of one version: the documented rule, again."""
        content: dict[str, Any] = {"id": self.product_id, "deleted": True}
        if not self.deleted:
            content = {
                "id": self.product_id,
                "name": self.name,
                "image_url": self.image_url,
                "store_url": f"{_SHOP}/{self.product_id}",
                "price_minor": self.price,
                "currency": "VND",
                "rating": self.rating,
                "reviews_count": self.reviews_count,
            }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def event_time(version: int) -> datetime:
    return _FIRST_EVENT + timedelta(minutes=version)


def product(product_id: str, version: int, images_url: str, **changes: Any) -> Sent:
    """One version of a product; id and version decide all fields that ``changes`` leaves out."""
    values: dict[str, Any] = {
        "name": f"Product {product_id} version {version}",
        "price": 1000 + version,
        "rating": 1.0 + version % 5,
        "reviews_count": version,
        "image_number": version % IMAGE_COUNT,
    } | changes
    image_url = f"{images_url}/{values['image_number']}.png"
    body = {
        "id": product_id,
        "version": version,
        "name": values["name"],
        "price": f"{values['price']} VND",
        "rating": values["rating"],
        "reviews_count": values["reviews_count"],
        "store_url": f"{_SHOP}/{product_id}",
        "image_url": image_url,
        "updated_at": event_time(version).isoformat(),
    }
    return Sent(
        json.dumps(body), product_id=product_id, version=version, image_url=image_url, **values
    )


def tombstone(product_id: str, version: int) -> Sent:
    body = {
        "id": product_id,
        "version": version,
        "deleted": True,
        "updated_at": event_time(version).isoformat(),
    }
    return Sent(json.dumps(body), product_id=product_id, version=version, deleted=True)


def poison(reason: str, images_url: str) -> Sent:
    return Sent(POISON[reason].replace("IMAGE", f"{images_url}/0.png"), poison=reason)


def workload(count: int, images_url: str, seed: int, versions: int = 10) -> list[Sent]:
    """About ``count`` messages in random order: 3 % poison, 20 % of the rest sent twice, one
    product in ten with two contents for one version, one in twenty deleted by its last.
    """
    draw = random.Random(seed)
    messages: list[Sent] = []
    for number in range(max(1, count // versions)):
        product_id = f"p{number}"
        history = [product(product_id, version, images_url) for version in range(1, versions + 1)]
        if number % 20 == 1:
            history[-1] = tombstone(product_id, versions)
        if number % 10 == 2:
            history.append(product(product_id, versions, images_url, price=7, name="Another"))
        messages += history
    messages += draw.sample(messages, len(messages) // 5)
    reasons = list(POISON)
    messages += [
        poison(reasons[index % len(reasons)], images_url) for index in range(count * 3 // 100)
    ]
    draw.shuffle(messages)
    return messages


def newest_content(messages: Sequence[Sent]) -> dict[str, Sent]:
    """The message that each product's name and price are from, deleted or not."""
    return newest([message for message in messages if not message.deleted])


def newest(messages: Sequence[Sent]) -> dict[str, Sent]:
    """The sequential model: the message that decides each product."""
    state: dict[str, Sent] = {}
    for message in messages:
        if message.poison:
            continue
        key = (message.version, message.payload_hash)
        held = state.get(message.product_id)
        if held is None or key > (held.version, held.payload_hash):
            state[message.product_id] = message
    return state
