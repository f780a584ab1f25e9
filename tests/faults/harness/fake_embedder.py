"""A stand-in for ``product_consumer.embedding.embedder``: no model, 5 ms a batch, known vectors.

It takes that module's place in the harness's worker, so that a process starts in two seconds
instead of ten and dozens can be killed in a test. Nothing else of the worker is replaced.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from product_consumer.models import Embedding, Embeddings

DIMENSION = 16
BATCH_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class PreparedItem:
    pixels: bytes
    text: str


class Embedder:
    model_id = "stand-in"
    dimension = DIMENSION
    device = "cpu"
    answer_seconds = 10.0
    shorter_side_pixels = None
    failed = False

    def tokenise(self, text: str) -> str:
        return text

    def prepare(self, picture: NDArray[np.uint8], tokens: str) -> PreparedItem:
        return PreparedItem(picture.tobytes(), tokens)

    def embed(self, items: Sequence[PreparedItem], *, alone: bool = False) -> list[Embeddings]:
        time.sleep(BATCH_SECONDS)
        return [Embeddings(text_vector(item.text), picture_vector(item.pixels)) for item in items]

    def embed_text(self, text: str) -> Embedding:
        return text_vector(text)

    def embed_image(self, picture: NDArray[np.uint8]) -> Embedding:
        return picture_vector(picture.tobytes())

    def watch_passes(self, _on_pass: object) -> None:
        return None

    def warm_up(self) -> float:
        return 0.0

    def close(self) -> None:
        return None


def load_embedder(_settings: Any) -> Embedder:
    return Embedder()


def text_vector(text: str) -> Embedding:
    """The unit vector of a text, unlike any other text's."""
    return _vector(text.encode())


def picture_vector(pixels: bytes) -> Embedding:
    """The unit vector of a decoded RGB picture."""
    return _vector(pixels)


def _vector(content: bytes) -> Embedding:
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))
