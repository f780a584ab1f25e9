"""The stage features: the same vector, however a picture is sent."""

import base64
import json

import numpy as np
import pytest

from product_consumer.embedding.embedder import Embedder
from product_consumer.outcomes import Rejected
from tests.support.model_stages import (
    Stages,
    as_file,
    delivered,
    drawn,
    result_of,
    sent,
)
from tests.support.stages import stream_message


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
