"""The client of stages: what it sends, what it shows, and what it leaves behind."""

import json
import threading
from pathlib import Path

import pytest

from product_consumer.models import Message
from product_consumer.queues.rabbitmq.url import AmqpUrl, read_url
from product_consumer.settings import Settings
from product_consumer.streams.request import (
    Request,
    ask,
    content_type_of,
    is_refusal,
    new_request,
    shown,
)
from tests.support import factories
from tests.support.rabbitmq import Got, RabbitClient
from tests.support.stages import stream_message


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (factories.jpeg_bytes(), "image/jpeg"),
        (factories.png_bytes(), "image/png"),
        (b'{"a": 1}', "application/json"),
        (b"[1]", "text/plain"),
        ("caf\u00e9".encode(), "text/plain"),
        (b"\x00\xff\xfe", "application/octet-stream"),
    ],
)
def test_the_content_type_is_told_by_the_content(body: bytes, content_type: str) -> None:
    assert content_type_of(body) == content_type


def test_an_answer_is_shown_as_it_is_and_pixels_are_described() -> None:
    pixels = stream_message(b"\x00\xff", headers={"kind": "image", "image_size": [1, 2, 1]})

    assert shown(stream_message('{"label": "mug"}')) == '{"label": "mug"}'
    assert json.loads(shown(pixels))["bytes"] == 2


def test_only_a_rejection_is_a_refusal() -> None:
    assert is_refusal(stream_message("{}", headers={"kind": "rejected"}))
    assert not is_refusal(stream_message("{}", headers={"kind": "classification"}))


@pytest.fixture
def url(rabbitmq: RabbitClient) -> AmqpUrl:
    return read_url(rabbitmq.server.url(rabbitmq.new_queue("raw")), "--rabbitmq_server")


def sent(rabbitmq: RabbitClient, queue: str) -> Got:
    while (got := rabbitmq.get(queue)) is None:
        threading.Event().wait(0.05)
    return got


def asking(url: AmqpUrl, request: Request, answers: list[Message | None]) -> threading.Thread:
    def run() -> None:
        settings = Settings()
        answers.append(ask(url, settings, request, wait_seconds=20, is_stopping=lambda: False))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_file_is_sent_and_its_answer_comes_back(
    rabbitmq: RabbitClient, url: AmqpUrl, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(factories.jpeg_bytes())
    answers: list[Message | None] = []
    thread = asking(url, new_request(path), answers)

    got = sent(rabbitmq, url.queue)
    reply_to, name = str(got.properties.reply_to), str(got.properties.correlation_id)
    rabbitmq.publish(reply_to, "of somebody else", correlation_id="another")
    rabbitmq.publish(reply_to, '{"label": "mug"}', correlation_id=name)
    thread.join(20)

    assert got.body == path.read_bytes()
    assert got.properties.content_type == "image/jpeg"
    assert got.headers["filename"] == "a.jpg"
    [answer] = answers
    assert answer is not None
    assert shown(answer) == '{"label": "mug"}'
    assert not rabbitmq.exists(reply_to)


def test_without_an_answer_there_is_none_and_no_queue_is_left(
    rabbitmq: RabbitClient, url: AmqpUrl
) -> None:
    request = Request(b"text", "a.txt", "c-1")

    answer = ask(url, Settings(), request, wait_seconds=0.1, is_stopping=lambda: False)

    assert answer is None
    assert not rabbitmq.exists("reply-c-1")
