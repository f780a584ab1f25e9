"""Stages with a real model, each in a rig of its own, and pictures to send to them."""

import io
import json
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from product_consumer.database.connection import Database
from product_consumer.demo.drawings.drawing import draw_product
from product_consumer.embedding.embedder import Embedder
from product_consumer.embedding.preprocessing import load_resizer
from product_consumer.images.decoder import ImageDecoder
from product_consumer.models import Message
from product_consumer.outcomes import Stored
from product_consumer.pipeline.context import new_context
from product_consumer.queues.base import Outgoing
from product_consumer.settings import Settings
from product_consumer.streams.labels.embedding import label_embeddings
from product_consumer.streams.labels.prompts import Templates
from product_consumer.streams.labels.reading import read_labels
from product_consumer.streams.labels.scoring import LabelScorer
from product_consumer.streams.stages.base import Stage
from product_consumer.streams.stages.classify import Classify
from product_consumer.streams.stages.features import Embedding, FeaturesStage
from product_consumer.streams.stages.guard import StageGuard
from product_consumer.streams.stages.pictures import PictureDecoder
from product_consumer.streams.stages.preprocess import Preprocess
from tests.support.stages import StageRig, stream_message

MAX_BYTES, MAX_PIXELS = 2 * 1024 * 1024, 1_000_000
LABELS = ("mug", "water bottle", "chair", "umbrella")


def drawn(kind: str = "mug", side: int = 160) -> Image.Image:
    return draw_product(kind, "red", Random(5), side)


def as_file(image: Image.Image, name: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name)
    return buffer.getvalue()


class Stages:
    """Makes stages of one model, each in a rig of its own, and closes them."""

    def __init__(self, directory: Path, settings: Settings, embedder: Embedder) -> None:
        self._directory = directory
        self._settings = settings
        self._embedder = embedder
        self._rigs: list[StageRig] = []
        database = Database(f"sqlite:///{directory / 'guard.db'}", timeout_seconds=5, connections=4)
        self._database = database
        self._guard = StageGuard(database, new_context(), stage="test", queue_name="in")
        self._guard.setup()
        self._pictures = PictureDecoder(ImageDecoder(max_pixels=MAX_PIXELS), MAX_PIXELS)

    def preprocess(self) -> StageRig:
        resizer = load_resizer(self._settings)
        return self._rig(
            Preprocess(self._pictures, resizer, self._guard, max_image_bytes=MAX_BYTES)
        )

    def features(self) -> StageRig:
        return self._rig(FeaturesStage(self._embedding()))

    def classify(self, min_score: float = 0.0) -> StageRig:
        path = self._directory / "labels.txt"
        path.write_text("\n".join(LABELS), encoding="utf-8")
        file, embedder = read_labels(path), self._embedder
        stopping = new_context().stopping
        vectors = label_embeddings(file, Templates.SIMPLE, embedder, self._directory, stopping)
        scorer = LabelScorer(
            file.labels,
            vectors,
            model_id=embedder.model_id,
            logit_scale=embedder.logit_scale,
            min_score=min_score,
        )
        return self._rig(Classify(self._embedding(), scorer))

    def close(self) -> None:
        for rig in self._rigs:
            rig.close()
        self._database.close()

    def _embedding(self) -> Embedding:
        return Embedding(self._pictures, self._embedder, self._guard, max_image_bytes=MAX_BYTES)

    def _rig(self, stage: Stage) -> StageRig:
        rig = StageRig(stage, self._directory / f"rig-{len(self._rigs)}")
        self._rigs.append(rig)
        return rig


def sent(rig: StageRig, *messages: Message) -> list[Outgoing]:
    """Work on messages that must succeed; return what reached the next queue."""
    outcomes = rig.process(*messages)
    assert all(isinstance(outcome, Stored) for outcome in outcomes), outcomes
    return rig.server.queues["out"]


def delivered(outgoing: Outgoing) -> Message:
    """A message as the next stage receives it."""
    envelope = outgoing.envelope
    return stream_message(
        outgoing.body,
        message_id=envelope.message_id,
        content_type=envelope.content_type,
        correlation_id=envelope.correlation_id,
        headers=dict(envelope.headers),
    )


def result_of(rig: StageRig, message: Message) -> Any:
    return json.loads(sent(rig, message)[-1].body)
