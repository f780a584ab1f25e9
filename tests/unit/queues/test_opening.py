"""A queue is opened by the transport that its URL names, and no other is loaded."""

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.queue_addresses import QueueAddress, StreamName
from product_consumer.queues import opening
from product_consumer.queues.base import MessageQueue, QueueUrls, Sender
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.queues.opening import (
    open_dead_letter_queue,
    open_queue,
    open_sender,
    set_up_queue,
)
from product_consumer.queues.sqs.queue import SqsQueue
from product_consumer.queues.sqs.sender import SqsSender
from product_consumer.settings import Settings, read_settings
from tests.support.sqs import QUEUE_URL, sqs_settings

OTHER_URL = "other://user:password@host/products"


class RecordingTransport:
    """A transport that takes down what it was asked for."""

    HAS_DEAD_LETTER_URLS = True
    NAME = "Other"

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def open_queue(self, _settings: Settings, address: QueueAddress, label: str) -> MessageQueue:
        self.asked.append((address.url, label))
        return InMemoryQueue()

    def open_dead_letter_queue(
        self, _settings: Settings, address: QueueAddress, visibility_timeout_seconds: int
    ) -> MessageQueue | None:
        self.asked.append((address.dead_letter_url, visibility_timeout_seconds))
        return None

    def open_sender(self, _settings: Settings, address: QueueAddress) -> Sender:
        raise NotImplementedError

    def set_up_queue(
        self, _settings: Settings, address: QueueAddress, name: str, max_receive_count: int
    ) -> QueueUrls:
        self.asked.append((address.url, name, max_receive_count))
        return QueueUrls("other://host/a", "other://host/b")


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> RecordingTransport:
    transport = RecordingTransport()
    monkeypatch.setitem(opening._TRANSPORTS, "other", lambda: transport)
    return transport


@pytest.fixture
def fake_sqs(monkeypatch: pytest.MonkeyPatch) -> RecordingTransport:
    """What stands in for SQS takes down what it was asked for."""
    transport = RecordingTransport()
    transport.NAME = "SQS"
    for scheme in ("https", "http"):
        monkeypatch.setitem(opening._TRANSPORTS, scheme, lambda: transport)
    monkeypatch.setattr(opening, "_sqs", lambda: transport)
    return transport


def settings(**values: Any) -> Settings:
    return read_settings(None, **values)


@pytest.mark.parametrize("scheme", ["https", "http", "HTTPS"])
def test_a_web_address_is_a_queue_of_sqs(fake_sqs: RecordingTransport, scheme: str) -> None:
    url = f"{scheme}://queue.example/products"

    open_queue(settings(queue_url=url), StreamName.PRODUCTS)

    assert fake_sqs.asked == [(url, "SQS")]


def test_a_stream_beside_the_products_is_named_by_its_label(fake_sqs: RecordingTransport) -> None:
    open_queue(settings(orders_queue_url=QUEUE_URL), StreamName.ORDERS)

    assert fake_sqs.asked == [(QUEUE_URL, "SQS (orders)")]


@pytest.mark.parametrize("named", ["queue_url", "sqs_queue_url"])
def test_a_queue_is_found_by_its_newer_and_its_older_name(
    fake_sqs: RecordingTransport, named: str
) -> None:
    open_queue(settings(**{named: QUEUE_URL}), StreamName.PRODUCTS)

    assert fake_sqs.asked == [(QUEUE_URL, "SQS")]


def test_another_transport_is_chosen_by_its_scheme(other: RecordingTransport) -> None:
    configured = settings(queue_url=OTHER_URL, dead_letter_queue_url="other://host/dead")

    open_queue(configured, StreamName.PRODUCTS)
    open_dead_letter_queue(configured, StreamName.PRODUCTS, 300)
    set_up_queue(configured, StreamName.PRODUCTS, "products", max_receive_count=7)

    assert other.asked == [
        (OTHER_URL, "Other"),
        ("other://host/dead", 300),
        (OTHER_URL, "products", 7),
    ]


def test_each_stream_may_have_a_transport_of_its_own(
    fake_sqs: RecordingTransport, other: RecordingTransport
) -> None:
    configured = settings(queue_url=OTHER_URL, orders_queue_url=QUEUE_URL)

    open_queue(configured, StreamName.PRODUCTS)
    open_queue(configured, StreamName.ORDERS)

    assert other.asked == [(OTHER_URL, "Other")]
    assert fake_sqs.asked == [(QUEUE_URL, "SQS (orders)")]


@pytest.mark.parametrize(
    ("field", "stream"),
    [
        ("queue_url", StreamName.PRODUCTS),
        ("sqs_queue_url", StreamName.PRODUCTS),
        ("orders_queue_url", StreamName.ORDERS),
    ],
)
def test_an_unknown_scheme_is_refused_with_those_that_are_known(
    field: str, stream: StreamName
) -> None:
    configured = settings(**{field: OTHER_URL})
    known = " or ".join(f"{scheme}://" for scheme in opening._TRANSPORTS)
    for action in (
        lambda: open_queue(configured, stream),
        lambda: open_dead_letter_queue(configured, stream, 300),
        lambda: open_sender(configured, configured.queue_of(stream)),
        lambda: set_up_queue(configured, stream, "name"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            action()
        assert refused.value.setting == field.upper()
        assert refused.value.problem.endswith(f"starting with {known}")
        assert "password" not in str(refused.value)


def test_rejected_messages_stay_in_the_transport_they_came_by(other: RecordingTransport) -> None:
    configured = settings(queue_url=QUEUE_URL, dead_letter_queue_url=OTHER_URL)

    with pytest.raises(ConfigurationError) as refused:
        open_queue(configured, StreamName.PRODUCTS)

    assert refused.value.setting == "DEAD_LETTER_QUEUE_URL"
    assert "QUEUE_URL" in refused.value.problem
    assert "password" not in str(refused.value)


@pytest.mark.parametrize(
    ("stream", "setting", "names"),
    [
        (StreamName.PRODUCTS, "QUEUE_URL", "QUEUE_URL or SQS_QUEUE_URL"),
        (StreamName.ORDERS, "ORDERS_QUEUE_URL", "ORDERS_QUEUE_URL"),
    ],
)
def test_a_stream_without_a_queue_names_what_may_be_set(
    stream: StreamName, setting: str, names: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_queue(settings(), stream)

    assert refused.value.setting == setting
    assert f"(set {names})" in refused.value.problem


def test_queues_are_set_up_on_sqs_where_no_url_says_otherwise(fake_sqs: RecordingTransport) -> None:
    urls = set_up_queue(settings(), StreamName.ORDERS, "orders")

    assert urls == QueueUrls("other://host/a", "other://host/b")
    assert fake_sqs.asked == [(None, "orders", None)]


def test_a_sender_of_sqs_knows_the_name_of_its_queue() -> None:
    configured = sqs_settings()
    sender = open_sender(configured, configured.queue_of(StreamName.PRODUCTS))
    sender.close()

    assert isinstance(sender, SqsSender)
    assert sender.queue_name == "products"


def test_a_queue_and_its_dead_letters_are_opened_on_a_real_server(
    elasticmq_url: str, tmp_path: Path
) -> None:
    local = {"aws_endpoint_url": elasticmq_url, "data_dir": tmp_path}
    name = f"opening-{uuid.uuid4().hex}"
    urls = set_up_queue(sqs_settings(**local), StreamName.ORDERS, name)
    configured = sqs_settings(**local, orders_queue_url=urls.queue_url)

    queue = open_queue(configured, StreamName.ORDERS)
    dead_letters = open_dead_letter_queue(configured, StreamName.ORDERS, 300)
    queue.close()

    assert isinstance(queue, SqsQueue)
    assert (queue.label, queue.dead_letter_queue_url) == (
        "SQS (orders)",
        urls.dead_letter_queue_url,
    )
    assert dead_letters is not None
    assert dead_letters.label == f"{name}-dead-letter"
    assert dead_letters.backlog().is_empty
    dead_letters.close()


def test_no_transport_is_loaded_before_it_is_chosen() -> None:
    program = """
import sys
import product_consumer.cli.app, product_consumer.queues.dead_letters.queue
import product_consumer.orders.components, thread_runner
transports = ("boto", "pika", "product_consumer.queues.sqs")
print(*(name for name in sys.modules if name.startswith(transports)))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert loaded.stdout.split() == []
