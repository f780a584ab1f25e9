"""Images that no worker has seen; no two are alike."""

import io
from collections.abc import Iterable

from PIL import Image

from product_consumer.vectors import Embedding
from tests.faults.harness.fake_embedder import image_embedding
from tests.faults.harness.world import FaultWorld
from tests.support import factories


def draw(world: FaultWorld, numbers: Iterable[int]) -> None:
    """Put new images on the image host, so that a worker must embed each of them."""
    for number in numbers:
        data = png(number)
        (world.images / f"{number}.png").write_bytes(data)
        world.image_embeddings[number] = embedding_of(data)


def png(number: int) -> bytes:
    """A PNG; each number has its own."""
    return factories.png_bytes((32, 24), (number % 256, number // 256, 77))


def embedding_of(data: bytes) -> Embedding:
    """The embedding that ``fake_embedder`` gives an encoded image."""
    with Image.open(io.BytesIO(data)) as decoded:
        return image_embedding(decoded.convert("RGB").tobytes())
