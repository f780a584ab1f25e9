"""A start finds its queues, or says which setting cannot work."""

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.outcomes import Rejected
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.sqs.admin import QueueUrls, publish, set_up_queues
from product_consumer.queues.sqs.opening import open_queue
from product_consumer.queues.sqs.queue import SqsQueue, sqs_client
from product_consumer.settings import Settings, read_settings
from tests.support.factories import message

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/000000000000/products"
REJECTED = Rejected("validate", "json_invalid", "Expecting value")


def settings(**overrides: Any) -> Settings:
    keys = {"sqs_access_key": "key", "sqs_secret_key": "secret", "sqs_queue_url": QUEUE_URL}
    return read_settings(None, **(keys | overrides))


@pytest.mark.parametrize(
    ("overrides", "region"),
    [
        ({"aws_region": "ap-southeast-1"}, "ap-southeast-1"),
        ({}, "eu-west-1"),
        ({"sqs_queue_url": "https://us-west-2.queue.amazonaws.com/1/q"}, "us-west-2"),
        (
            {"sqs_queue_url": "http://h/q", "aws_endpoint_url": "http://127.0.0.1:9324"},
            "us-east-1",
        ),
    ],
)
def test_the_region_is_the_setting_or_follows_from_the_queue(
    overrides: dict[str, str], region: str
) -> None:
    client = sqs_client(settings(**overrides))
    client.close()

    assert client.meta.region_name == region


def test_a_region_of_the_aws_environment_comes_before_the_queue_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    client = sqs_client(settings())
    client.close()

    assert client.meta.region_name == "eu-central-1"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"sqs_queue_url": "https://queue.example/products"}, "AWS_REGION"),
        ({"aws_region": "not a region"}, "AWS_REGION"),
        ({"aws_endpoint_url": "localhost"}, "AWS_ENDPOINT_URL"),
    ],
)
def test_a_client_that_cannot_work_names_the_setting(overrides: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        sqs_client(settings(**overrides))

    assert refused.value.setting == named


def test_an_unknown_profile_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(ConfigurationError, match="nobody"):
        sqs_client(settings(sqs_access_key=None, sqs_secret_key=None))


def test_a_start_without_credentials_names_the_key() -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_queue(settings(sqs_access_key=None, sqs_secret_key=None))

    assert refused.value.setting == "SQS_ACCESS_KEY"


def test_a_start_without_a_queue_names_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_queue(settings(sqs_queue_url=None))

    assert refused.value.setting == "SQS_QUEUE_URL"


class Refusing:
    """A server that answers every call with one error."""

    def __init__(self, code: str, status: int = 400) -> None:
        body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "no"}).encode()
        self._answer = (
            f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                received = b""
                while not received.rstrip().endswith(b"}"):
                    received += connection.recv(65_536)
                connection.sendall(self._answer)

    def __enter__(self) -> "Refusing":
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("QueueDoesNotExist", "SQS_QUEUE_URL"),
        ("InvalidClientTokenId", "SQS_ACCESS_KEY"),
        ("AccessDenied", "SQS_ACCESS_KEY"),
        ("SignatureDoesNotMatch", "SQS_ACCESS_KEY"),
    ],
)
def test_a_start_that_no_retry_can_mend_names_the_setting(code: str, named: str) -> None:
    with Refusing(code) as server, pytest.raises(ConfigurationError) as refused:
        open_queue(settings(aws_endpoint_url=server.url))

    assert refused.value.setting == named


def test_refused_credentials_do_not_end_a_worker_that_runs() -> None:
    with Refusing("AccessDenied") as server:
        queue = SqsQueue(
            sqs_client(settings(aws_endpoint_url=server.url)),
            QUEUE_URL,
            None,
            RejectLog(Path("unused")),
            120,
        )
        with pytest.raises(QueueUnavailable, match="AccessDenied"):
            queue.receive(1, 0)
        queue.close()


def test_an_unreachable_queue_is_unavailable_at_the_start_and_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    unreachable = settings(aws_endpoint_url=f"http://127.0.0.1:{port}")
    started_at = time.monotonic()

    with pytest.raises(QueueUnavailable):
        open_queue(unreachable)

    queue = SqsQueue(sqs_client(unreachable), QUEUE_URL, None, RejectLog(Path("unused")), 120)
    for call in (
        lambda: queue.receive(1, 0),
        lambda: queue.acknowledge([message()]),
        lambda: queue.release([message()]),
        queue.backlog,
    ):
        with pytest.raises(QueueUnavailable):
            call()
    queue.close()
    assert time.monotonic() - started_at < 45


@pytest.fixture
def client(elasticmq_url: str) -> Iterator[Any]:
    client = sqs_client(settings(aws_endpoint_url=elasticmq_url))
    yield client
    client.close()


@pytest.fixture
def urls(client: Any) -> QueueUrls:
    name = f"unit-{uuid.uuid4().hex}"
    return set_up_queues(client, name, visibility_timeout_seconds=30)


def attributes_of(client: Any, queue_url: str) -> dict[str, str]:
    reply = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
    return dict(reply["Attributes"])


def test_the_dead_letter_queue_is_found_in_the_redrive_policy(
    elasticmq_url: str, urls: QueueUrls
) -> None:
    queue = open_queue(settings(aws_endpoint_url=elasticmq_url, sqs_queue_url=urls.queue_url))
    queue.close()

    assert queue.dead_letter_queue_url == urls.dead_letter_queue_url


def test_a_dead_letter_queue_that_is_set_comes_before_the_policy(
    elasticmq_url: str, client: Any, urls: QueueUrls
) -> None:
    other = client.create_queue(QueueName=f"other-{uuid.uuid4().hex}")["QueueUrl"]
    queue = open_queue(
        settings(
            aws_endpoint_url=elasticmq_url,
            sqs_queue_url=urls.queue_url,
            sqs_dead_letter_queue_url=other,
        )
    )
    queue.close()

    assert queue.dead_letter_queue_url == other


def test_without_any_dead_letter_queue_rejections_go_to_a_file(
    elasticmq_url: str, client: Any, tmp_path: Path
) -> None:
    bare = client.create_queue(QueueName=f"bare-{uuid.uuid4().hex}")["QueueUrl"]
    publish(client, bare, ["{"])
    queue = open_queue(
        settings(aws_endpoint_url=elasticmq_url, sqs_queue_url=bare, data_dir=tmp_path / "data")
    )
    [received] = queue.receive(1, 5)
    queue.reject(received, REJECTED)
    queue.close()

    [line] = (tmp_path / "data" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["message_id"] == received.message_id


@pytest.mark.parametrize("named", ["SQS_QUEUE_URL", "SQS_DEAD_LETTER_QUEUE_URL"])
def test_a_queue_that_does_not_exist_is_named(
    elasticmq_url: str, urls: QueueUrls, named: str
) -> None:
    configured = {
        "aws_endpoint_url": elasticmq_url,
        "sqs_queue_url": urls.queue_url,
        named.lower(): f"{elasticmq_url}/000000000000/missing",
    }
    with pytest.raises(ConfigurationError) as refused:
        open_queue(settings(**configured))

    assert refused.value.setting == named


def test_a_dead_letter_queue_is_another_queue(elasticmq_url: str, urls: QueueUrls) -> None:
    configured = settings(
        aws_endpoint_url=elasticmq_url,
        sqs_queue_url=urls.queue_url,
        sqs_dead_letter_queue_url=urls.queue_url,
    )
    with pytest.raises(ConfigurationError, match="the queue that it should serve"):
        open_queue(configured)


def test_a_redrive_policy_that_is_too_eager_is_told(
    elasticmq_url: str, urls: QueueUrls, caplog: pytest.LogCaptureFixture
) -> None:
    configured = settings(
        aws_endpoint_url=elasticmq_url, sqs_queue_url=urls.queue_url, max_attempts=12
    )
    open_queue(configured).close()

    assert "maxReceiveCount should be above MAX_ATTEMPTS" in caplog.text
