"""The messages of the demo: drawn pictures in every form that a stage takes, and records."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from product_consumer.demo.drawings.catalogue import assortment, draw_catalogue
from product_consumer.demo.drawings.drawing import KINDS
from product_consumer.models import Envelope
from product_consumer.queues.base import Outgoing
from product_consumer.streams.anomaly.planted import Plan, PlantedRecord, planted_records
from product_consumer.streams.headers import APP_ID, FILE_NAME, IMAGE_SIZE

SEED = 2027
PICTURES = 3 * len(KINDS)
RECORDS = Plan(seed=SEED, records=3000, quiet=300)
BROKEN = (b"\xff\xd8\xff\xe0 not a picture after all \x00", b'{"image": "no base64!"}')
"""Two requests that a stage must reject."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request, and what its answer should be."""

    message: Outgoing
    correlation_id: str
    kind: str | None
    """What is drawn; None for a request that must be rejected."""


def picture_requests(directory: Path) -> list[Sent]:
    """Draw pictures; return them as files, as raw pixels and as base64, and some broken ones."""
    draw_catalogue(directory, SEED, PICTURES)
    kinds = [kind for kind, _ in assortment(SEED, PICTURES)]
    paths = sorted((directory / "images").iterdir())
    sent = [
        _request(number, path, kind)
        for number, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    return sent + [_broken(number, body) for number, body in enumerate(BROKEN)]


def records() -> Iterator[tuple[str, PlantedRecord, Outgoing]]:
    """Yield records with their correlation ids, and as messages."""
    for number, planted in enumerate(planted_records(RECORDS)):
        name = f"record-{number}"
        yield name, planted, _message(json.dumps(planted.values), name, "application/json", {})


def labels() -> Sequence[str]:
    """Return the labels of the pictures."""
    return KINDS


def _request(number: int, path: Path, kind: str) -> Sent:
    data, name = path.read_bytes(), path.stem
    headers: dict[str, object] = {FILE_NAME: path.name}
    if number % 3 == 0:
        message = _message(data, name, "image/jpeg", headers)
    elif number % 3 == 1:
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        # As the field has it: raw pixels that say that they are a JPEG.
        headers |= {IMAGE_SIZE: list(pixels.shape)}
        message = _message(pixels.tobytes(), name, "image/jpeg", headers)
    else:
        body = {"image_name": path.name, "image": base64.b64encode(data).decode()}
        message = _message(json.dumps(body), name, "application/json", {})
    return Sent(message, name, kind)


def _broken(number: int, body: bytes) -> Sent:
    name = f"broken-{number + 1}"
    return Sent(_message(body, name, "", {}), name, None)


def _message(
    body: str | bytes, name: str, content_type: str, headers: dict[str, object]
) -> Outgoing:
    envelope = Envelope(
        message_id=name,
        content_type=content_type,
        correlation_id=name,
        app_id=APP_ID,
        headers=headers,
    )
    return Outgoing(body, {}, envelope)
