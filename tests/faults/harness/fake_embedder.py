"""Replaces ``product_consumer.embedding.embedder``: no model, 5 ms a batch, known embeddings.

The harness's worker imports this module in its place, so that a process starts in two seconds
instead of ten and a test can kill dozens. Nothing else of the worker is replaced.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from product_consumer.models import Embeddings
from product_consumer.vectors import Embedding

DIMENSION = 16
BATCH_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class PreparedItem:
    """An image's RGB bytes, and a text."""

    pixels: bytes
    text: str


class Embedder:
    """A fake: it has the real embedder's name, which others import, and its methods."""

    model_id = "stand-in"
    dimension = DIMENSION
    device = "cpu"
    answer_seconds = 10.0
    shorter_side_pixels = None
    failed = False

    def tokenise(self, text: str) -> str:
        return text

    def prepare(self, pixels: NDArray[np.uint8], tokens: str) -> PreparedItem:
        return PreparedItem(pixels.tobytes(), tokens)

    def embed(self, items: Sequence[PreparedItem], *, alone: bool = False) -> list[Embeddings]:
        time.sleep(BATCH_SECONDS)
        return [
            Embeddings(text_embedding(item.text), image_embedding(item.pixels)) for item in items
        ]

    def embed_text(self, text: str) -> Embedding:
        return text_embedding(text)

    def embed_image(self, pixels: NDArray[np.uint8]) -> Embedding:
        return image_embedding(pixels.tobytes())

    def watch_passes(self, _on_pass: object) -> None:
        return None

    def warm_up(self) -> float:
        return 0.0

    def close(self) -> None:
        return None


def load_embedder(_settings: Any) -> Embedder:
    return Embedder()


def text_embedding(text: str) -> Embedding:
    """float32 of shape (DIMENSION,) and length 1; each text has its own."""
    return _embedding(text.encode())


def image_embedding(pixels: bytes) -> Embedding:
    """The same for the RGB bytes of a decoded image."""
    return _embedding(pixels)


def _embedding(content: bytes) -> Embedding:
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    numbers = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return numbers / np.float32(np.linalg.norm(numbers))
