"""What makes a test shorter: pictures of one's own, leases that end at once."""

import contextlib
import io
import time
from collections.abc import Iterable
from typing import Any

from botocore.exceptions import ClientError
from PIL import Image

from product_consumer.models import Embedding
from tests.faults.harness.fake_embedder import picture_vector
from tests.faults.harness.world import POLL_SECONDS, Arena
from tests.support import factories


def draw(arena: Arena, numbers: Iterable[int]) -> None:
    """Put pictures on the image host that no worker has seen, so that each must be embedded."""
    for number in numbers:
        data = picture(number)
        (arena.images / f"{number}.png").write_bytes(data)
        arena.picture_vectors[number] = vector_of(data)


def picture(number: int) -> bytes:
    """A PNG unlike that of any other number."""
    return factories.png_bytes((32, 24), (number % 256, number // 256, 77))


def vector_of(data: bytes) -> Embedding:
    with Image.open(io.BytesIO(data)) as decoded:
        return picture_vector(decoded.convert("RGB").tobytes())


def end_leases(arena: Arena) -> None:
    """What dead workers are known to have held is visible again, as it would be after their leases.

    What was on its way to one that died stays hidden: nobody has its receipts.
    """
    # A poll that a dead worker left open would take it, for a whole lease.
    time.sleep(POLL_SECONDS)
    for handle in _handles(arena):
        with contextlib.suppress(ClientError):
            arena.sqs.change_message_visibility(
                QueueUrl=arena.queue_url, ReceiptHandle=handle, VisibilityTimeout=0
            )


def _handles(arena: Arena) -> list[Any]:
    events = [event for event in arena.events() if event.kind == "receipts"]
    return [handle for event in events for handle in event["handles"]]
