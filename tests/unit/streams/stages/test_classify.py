"""The stage classify: scores as OpenCLIP has them, and pictures that no stage can use."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from product_consumer.embedding.embedder import Embedder
from product_consumer.outcomes import Rejected, Stored
from product_consumer.settings import Settings
from tests.support.model_stages import (
    LABELS,
    Stages,
    as_file,
    delivered,
    drawn,
    result_of,
    sent,
)
from tests.support.stages import StageRig, stream_message


def bomb(_: Image.Image) -> bytes:
    return as_file(Image.new("1", (3000, 3000)))


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
