"""Images that no worker has seen, each unlike all others."""

import io
from collections.abc import Iterable

from PIL import Image

from product_consumer.models import Embedding
from tests.faults.harness.fake_embedder import picture_vector
from tests.faults.harness.world import FaultWorld
from tests.support import factories


def draw(world: FaultWorld, numbers: Iterable[int]) -> None:
    """Put pictures on the image host that no worker has seen, so that each must be embedded."""
    for number in numbers:
        data = picture(number)
        (world.images / f"{number}.png").write_bytes(data)
        world.picture_vectors[number] = vector_of(data)


def picture(number: int) -> bytes:
    """A PNG unlike that of any other number."""
    return factories.png_bytes((32, 24), (number % 256, number // 256, 77))


def vector_of(data: bytes) -> Embedding:
    with Image.open(io.BytesIO(data)) as decoded:
        return picture_vector(decoded.convert("RGB").tobytes())
