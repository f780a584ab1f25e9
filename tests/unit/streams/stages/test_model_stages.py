"""Preprocess, features and classify with a real model: what they give, and that they agree."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from product_consumer.database.connection import Database
from product_consumer.demo.drawings.drawing import draw_product
from product_consumer.embedding.embedder import Embedder
from product_consumer.embedding.preprocessing import load_resizer
from product_consumer.images.decoder import ImageDecoder
from product_consumer.models import Message
from product_consumer.outcomes import Rejected, Stored
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


@pytest.fixture
def stages(tmp_path: Path, model_settings: Settings, embedder: Embedder) -> Iterator[Stages]:
    made = Stages(tmp_path, model_settings, embedder)
    yield made
    made.close()


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


def test_a_picture_becomes_pixels_of_the_models_size(
    stages: Stages, model_settings: Settings
) -> None:
    message = stream_message(as_file(drawn()), headers={"filename": "a.png"})

    [pixels] = sent(stages.preprocess(), message)

    config = json.loads(Path(model_settings.openclip_config or "").read_text(encoding="utf-8"))
    side = config.get("model_cfg", config)["vision_cfg"]["image_size"]
    assert isinstance(pixels.body, bytes)
    assert len(pixels.body) == side * side * 3
    assert pixels.envelope.content_type == "application/octet-stream"
    assert dict(pixels.envelope.headers) == {
        "filename": "a.png",
        "kind": "image",
        "image_size": [side, side, 3],
    }


def test_texts_and_records_are_cleaned(stages: Stages) -> None:
    rig = stages.preprocess()

    text, record = sent(
        rig,
        stream_message("  cafe\u0301\n"),
        stream_message('{"a": 1.5, "b": NaN, "c": "x", "d": true, "e": 2}'),
    )

    assert (text.body, text.envelope.content_type) == ("café", "text/plain")
    assert json.loads(record.body) == {"a": 1.5, "e": 2}
    assert record.envelope.headers["kind"] == "record"


def test_every_way_to_send_a_picture_gives_the_same_features(stages: Stages) -> None:
    image = drawn()
    array = np.asarray(image.convert("RGB"))
    rig = stages.features()
    ways = [
        stream_message(as_file(image)),
        stream_message(array.tobytes(), headers={"image_size": list(array.shape)}),
        stream_message(json.dumps({"image": base64.b64encode(as_file(image)).decode()})),
        *map(delivered, sent(stages.preprocess(), stream_message(as_file(image)))),
    ]

    sent(rig, *ways)

    vectors = [np.array(body["vector"]) for body in rig.server.bodies("out")]
    assert len(vectors) == 4
    assert all(float(vector @ vectors[0]) > 0.99999 for vector in vectors)
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-6)


def test_features_are_the_documented_json(stages: Stages, embedder: Embedder) -> None:
    features = result_of(stages.features(), stream_message("a red mug", correlation_id="c-1"))

    assert features.keys() == {"kind", "correlation_id", "model", "vector", "source"}
    assert (features["kind"], features["correlation_id"]) == ("text_features", "c-1")
    assert features["model"] == embedder.model_id
    assert features["source"] == {"filename": None}
    assert len(features["vector"]) == embedder.dimension


def test_a_record_has_no_features(stages: Stages) -> None:
    [outcome] = stages.features().process(stream_message('{"a": 1}'))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "kind_unsupported"


def test_a_classification_is_the_documented_json(stages: Stages, embedder: Embedder) -> None:
    message = stream_message(as_file(drawn()), correlation_id="c-1", headers={"filename": "a.png"})

    found = result_of(stages.classify(), message)

    assert found["kind"] == "classification"
    assert found["correlation_id"] == "c-1"
    assert found["model"] == embedder.model_id
    assert found["source"] == {"filename": "a.png"}
    assert {row["label"] for row in found["labels"]} == set(LABELS)
    assert sum(row["score"] for row in found["labels"]) == pytest.approx(1, abs=1e-4)
    assert found["labels"][0] == {"label": found["label"], "score": found["score"]}
    assert found["label"] == "mug"


def test_features_of_another_stage_are_classified_as_the_picture_is(stages: Stages) -> None:
    message = stream_message(as_file(drawn("chair")), correlation_id="c-1")
    [features] = sent(stages.features(), message)
    rig = stages.classify()

    sent(rig, message, delivered(features))

    # In this order: what has features already needs no model.
    of_features, of_picture = rig.server.bodies("out")
    assert of_features["label"] == of_picture["label"] == "chair"
    assert of_features["score"] == pytest.approx(of_picture["score"], abs=1e-4)


def test_below_the_least_score_there_is_no_label(stages: Stages) -> None:
    found = result_of(stages.classify(min_score=1.0), stream_message("something else"))

    assert found["label"] is None
    assert 0 < found["score"] < 1


@pytest.mark.parametrize(
    "changes", [{"model": "another"}, {"vector": [1.0, 0.0]}], ids=["model", "dimension"]
)
def test_features_of_another_model_are_refused(stages: Stages, changes: dict[str, Any]) -> None:
    features = result_of(stages.features(), stream_message("a red mug"))

    [outcome] = stages.classify().process(stream_message(json.dumps(features | changes)))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "model_mismatch"


def test_scores_are_those_of_open_clip_itself(
    stages: Stages, model_settings: Settings, embedder: Embedder
) -> None:
    picture = drawn("umbrella")
    found = result_of(stages.classify(), stream_message(as_file(picture)))

    assert {row["label"]: row["score"] for row in found["labels"]} == pytest.approx(
        open_clips_scores(model_settings, picture), abs=0.01
    )


def open_clips_scores(settings: Settings, picture: Image.Image) -> dict[str, float]:
    model, _, transform = open_clip.create_model_and_transforms(
        settings.openclip_model, pretrained=settings.openclip_pretrained
    )
    model.eval()
    tokenizer = open_clip.get_tokenizer(settings.openclip_model)
    with torch.inference_mode():
        classifier = open_clip.build_zero_shot_classifier(
            model,
            tokenizer=tokenizer,
            classnames=LABELS,
            templates=open_clip.SIMPLE_IMAGENET_TEMPLATES,
        )
        features = model.encode_image(transform(picture.convert("RGB"))[None], normalize=True)
        shares = (model.logit_scale.exp() * features @ classifier).softmax(dim=-1)[0]
    return dict(zip(LABELS, shares.tolist(), strict=True))


def bomb(_: Image.Image) -> bytes:
    return as_file(Image.new("1", (3000, 3000)))


@pytest.mark.parametrize("stage", ["preprocess", "features", "classify"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda image: as_file(image)[:-600], "image_truncated"),
        (lambda image: as_file(image, "JPEG")[:900], "image_truncated"),
        (bomb, "image_pixels"),
        (lambda image: as_file(image, "TIFF"), "image_format"),
    ],
)
def test_a_picture_that_cannot_be_used_is_rejected_at_once_and_spares_its_batch(
    stages: Stages, stage: str, make: Callable[[Image.Image], bytes], reason: str
) -> None:
    rig: StageRig = getattr(stages, stage)()
    bad = stream_message(make(drawn()), correlation_id="bad")
    good = stream_message(as_file(drawn()), correlation_id="good")

    refused, stored = rig.process(bad, good)

    assert isinstance(refused, Rejected)
    assert refused.reason == reason
    assert stored == Stored("good")
    [row] = rig.store.of("bad")
    assert (row.status, row.reason) == ("rejected", reason)


def test_pixels_that_begin_as_a_file_are_read_as_pixels(stages: Stages) -> None:
    pixels = np.asarray(drawn().convert("RGB")).copy()
    pixels[0, 0] = (0xFF, 0xD8, 0xFF)
    message = stream_message(pixels.tobytes(), headers={"image_size": list(pixels.shape)})

    assert result_of(stages.classify(), message)["label"] == "mug"
