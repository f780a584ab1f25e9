"""The stage preprocess: pictures of the model's size, clean texts, numbers only."""

import json
from pathlib import Path

from product_consumer.settings import Settings
from tests.support.model_stages import (
    Stages,
    as_file,
    drawn,
    sent,
)
from tests.support.stages import stream_message


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
