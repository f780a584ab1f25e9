"""Valid values with sensible defaults; a test names only what it is about."""

import hashlib
import io
import itertools
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
from PIL import Image

from product_consumer.models import Embeddings, Message, Product, ProductRow, Version

OBSERVED_AT = datetime(2026, 11, 21, 14, 30, 5, tzinfo=UTC)
SENT_AT = datetime(2026, 11, 21, 14, 30, 9, tzinfo=UTC)

_numbers = itertools.count(1)

Colour = tuple[int, ...]


def product_body(**overrides: Any) -> dict[str, Any]:
    """A product message as the crawler writes it, decoded. ``name=...`` replaces a field."""
    body: dict[str, Any] = {
        "id": "abc123",
        "name": "Áo thun nam cổ tròn",
        "store_url": "https://shop.example/p/abc123",
        "price": "1.299.000₫",
        "rating": "4.8",
        "reviews_count": "1520",
        "timestamp": "21112026_143005",
        "image_url": "https://cdn.example/img/abc123.jpg",
    }
    return body | overrides


def body_text(without: tuple[str, ...] = (), **overrides: Any) -> str:
    """``product_body`` as JSON text; fields named in ``without`` are left out."""
    body = product_body(**overrides)
    return json.dumps({k: v for k, v in body.items() if k not in without}, ensure_ascii=False)


def message(body: str | bytes | None = None, **overrides: Any) -> Message:
    """A delivered message with an id and a receipt handle of its own."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "message_id": f"message-{number}",
        "receipt_handle": f"receipt-{number}",
        "body": body_text() if body is None else body,
        "receive_count": 1,
        "sent_at": SENT_AT,
    }
    return Message(**(values | overrides))


def version(value: int = 1, rank: int = 2, payload_hash: str = "0" * 64) -> Version:
    return Version(rank=rank, value=value, payload_hash=payload_hash)


def product(**overrides: Any) -> Product:
    """The product that ``product_body`` is parsed to."""
    values: dict[str, Any] = {
        "id": "abc123",
        "version": version(),
        "observed_at": OBSERVED_AT,
        "name": "Áo thun nam cổ tròn",
        "image_url": "https://cdn.example/img/abc123.jpg",
        "store_url": "https://shop.example/p/abc123",
        "price_minor": 1_299_000,
        "currency": "VND",
        "rating": 4.8,
        "reviews_count": 1520,
    }
    return Product(**(values | overrides))


def tombstone(product_id: str = "abc123", **overrides: Any) -> Product:
    """A product message with ``deleted: true``, validated."""
    values: dict[str, Any] = {"version": version(2), "observed_at": OBSERVED_AT}
    return Product(id=product_id, deleted=True, **(values | overrides))


def unit_embedding(seed: int = 0, dimension: int = 768) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 of shape (dimension,) and length 1: random, and the same for the same seed."""
    numbers = np.random.default_rng(seed).standard_normal(dimension)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def embeddings(seed: int = 0, dimension: int = 768) -> Embeddings:
    """A text and an image embedding of unit length; no other seed has them."""
    return Embeddings(
        text=unit_embedding(2 * seed, dimension), image=unit_embedding(2 * seed + 1, dimension)
    )


def product_row(**overrides: Any) -> ProductRow:
    """The ledger's current row of ``product()``; its embeddings follow from its id."""
    values: dict[str, Any] = {
        "id": "abc123",
        "revision": 1,
        "deleted": False,
        "name": "Áo thun nam cổ tròn",
        "store_url": "https://shop.example/p/abc123",
        "price_minor": 1_299_000,
        "currency": "VND",
        "rating": 4.8,
        "reviews_count": 1520,
        "image_url": "https://cdn.example/img/abc123.jpg",
        "last_update": OBSERVED_AT,
    }
    values |= overrides
    if "embeddings" not in values:
        digest = hashlib.sha256(str(values["id"]).encode()).digest()
        values["embeddings"] = embeddings(seed=int.from_bytes(digest[:4], "big"))
    return ProductRow(**values)


def image(
    size: tuple[int, int] = (64, 48),
    colour: Colour = (200, 30, 30),
    seed: int | None = None,
) -> Image.Image:
    """One flat colour (four numbers: with transparency), or noise when a seed is given.

    ``size``: width and height in pixels.
    """
    if seed is None:
        return Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def jpeg_bytes(
    size: tuple[int, int] = (64, 48),
    colour: Colour = (200, 30, 30),
    seed: int | None = None,
) -> bytes:
    return encoded(image(size, colour, seed), "JPEG")


def png_bytes(
    size: tuple[int, int] = (64, 48),
    colour: Colour = (200, 30, 30),
    seed: int | None = None,
) -> bytes:
    return encoded(image(size, colour, seed), "PNG")


def encoded(drawn: Image.Image, image_format: str) -> bytes:
    """An image as a file in one of Pillow's formats."""
    buffer = io.BytesIO()
    drawn.save(buffer, format=image_format)
    return buffer.getvalue()
