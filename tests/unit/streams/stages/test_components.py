"""Stages as workers on a real RabbitMQ: from the queue of a client to its answer."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.queues.rabbitmq.url import AmqpUrl, read_url
from product_consumer.settings import Settings
from product_consumer.streams.labels.reading import read_labels
from product_consumer.streams.stages.components import StageOptions, run_stage
from product_consumer.streams.stages.names import StageName
from tests.support import factories
from tests.support.rabbitmq import RabbitClient

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def settings(model_settings: Settings, tmp_path: Path) -> Settings:
    return model_settings.model_copy(update={"data_dir": tmp_path / "data"})


@pytest.fixture
def raw(rabbitmq: RabbitClient) -> AmqpUrl:
    return read_url(rabbitmq.server.url(rabbitmq.new_queue("raw")), "--rabbitmq_server")


def run(options: StageOptions, settings: Settings) -> int:
    return run_stage(options, settings, threads=2, until_empty=True)


def rows(settings: Settings) -> set[tuple[str, ...]]:
    with sqlite3.connect(settings.data_dir / "products.db") as database:
        return set(
            database.execute("SELECT correlation_id, stage, kind, status, reason FROM results")
        )


def test_a_request_goes_through_three_stages_and_is_answered(
    rabbitmq: RabbitClient, raw: AmqpUrl, settings: Settings, tmp_path: Path
) -> None:
    pixels, features, out, results = (
        raw.with_queue(rabbitmq.name(stem)) for stem in ("pixels", "features", "out", "results")
    )
    client = rabbitmq.new_queue("client")
    labels = tmp_path / "labels.txt"
    labels.write_text("mug\nchair\n", encoding="utf-8")
    common = {"reply_to": client, "headers": {"traceparent": TRACEPARENT, "filename": "a.jpg"}}
    rabbitmq.publish(raw.queue, factories.jpeg_bytes(), correlation_id="picture", **common)
    rabbitmq.publish(raw.queue, "a red mug", correlation_id="text", reply_to="nobody")
    rabbitmq.publish(raw.queue, b"\xff\xd8\xff broken \x00", correlation_id="broken", **common)

    steps = [
        StageOptions(StageName.PREPROCESS, raw, pixels),
        StageOptions(StageName.FEATURES, pixels, features),
        StageOptions(StageName.CLASSIFY, features, out, results, read_labels(labels)),
    ]
    assert [run(options, settings) for options in steps] == [0, 0, 0]

    [answer] = rabbitmq.take_all(client)
    assert json.loads(answer.body)["kind"] == "classification"
    assert answer.properties.correlation_id == "picture"
    assert answer.headers["traceparent"] == TRACEPARENT
    assert answer.headers["filename"] == "a.jpg"
    assert answer.properties.delivery_mode == 2
    assert rabbitmq.count(out.queue) == rabbitmq.count(results.queue) == 2
    assert rows(settings) == {
        ("picture", "classify", "classification", "done", None),
        ("text", "classify", "classification", "done", None),
        ("broken", "preprocess", "image", "rejected", "image_truncated"),
    }
    rejected = (settings.data_dir / "rejected.jsonl").read_text(encoding="utf-8")
    assert json.loads(rejected)["reason"] == "image_truncated"


def test_a_wrong_password_stops_the_start(raw: AmqpUrl, settings: Settings) -> None:
    wrong = replace(raw, nodes=tuple(replace(node, password="no") for node in raw.nodes))

    assert run(StageOptions(StageName.PREPROCESS, wrong, wrong.with_queue("out")), settings) == 78


def test_a_model_that_does_not_exist_is_told_before_anything_is_consumed(
    rabbitmq: RabbitClient, raw: AmqpUrl, settings: Settings
) -> None:
    rabbitmq.publish(raw.queue, "a red mug")
    wrong = settings.model_copy(update={"openclip_model": "no-such-model"})
    out = raw.with_queue(rabbitmq.name("out"))

    assert run(StageOptions(StageName.FEATURES, raw, out), wrong) == 78
    assert rabbitmq.count(raw.queue) == 1


def test_a_name_that_is_no_queue_is_refused(raw: AmqpUrl) -> None:
    with pytest.raises(ConfigurationError):
        raw.with_queue("amq.gen-1")
