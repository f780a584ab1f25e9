"""A start finds its queues, or says which setting cannot work."""

import json
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.outcomes import Rejected
from product_consumer.queue_addresses import StreamName
from product_consumer.queues.base import QueueUrls
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.sqs import opening
from product_consumer.queues.sqs.client import sqs_client
from product_consumer.queues.sqs.opening import open_queue
from product_consumer.queues.sqs.queue import SqsQueue
from product_consumer.queues.sqs.sender import publish
from product_consumer.settings import Settings
from tests.support.certificate_authority import Authority, tls_server
from tests.support.factories import message
from tests.support.sqs import QUEUE_URL, sqs_settings

REJECTED = Rejected("validate", "json_invalid", "Expecting value")


def open_products(configured: Settings) -> SqsQueue:
    return open_queue(configured, configured.queue_of(StreamName.PRODUCTS))


def test_a_start_without_credentials_names_the_key() -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_products(sqs_settings(sqs_access_key=None, sqs_secret_key=None))

    assert refused.value.setting == "SQS_ACCESS_KEY"


def test_a_start_without_a_queue_names_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_products(sqs_settings(sqs_queue_url=None))

    assert refused.value.setting == "QUEUE_URL"


class Refusing:
    """A server that responds to every call with the same error."""

    def __init__(self, code: str, status: int = 400, message: str = "no") -> None:
        body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": message}).encode()
        self._response = (
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
                connection.sendall(self._response)

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
        ("SignatureDoesNotMatch", "SQS_SECRET_KEY"),
    ],
)
def test_a_start_that_no_retry_can_mend_names_the_setting(code: str, named: str) -> None:
    with Refusing(code) as server, pytest.raises(ConfigurationError) as refused:
        open_products(sqs_settings(aws_endpoint_url=server.url))

    assert refused.value.setting == named


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        ("InvalidSignatureException", "Signature expired: 20261126T220000Z is now", "the clock"),
        ("SignatureDoesNotMatch", "Signature not yet current: 20261126T220000Z", "the clock"),
        ("RequestExpired", "Request has expired", "the clock"),
        ("ExpiredTokenException", "The security token included is expired", "the token"),
        ("ServiceUnavailable", "later", "later"),
    ],
)
def test_a_refusal_that_time_can_mend_is_waited_for(code: str, message: str, words: str) -> None:
    with (
        Refusing(code, 403, message) as server,
        pytest.raises(QueueUnavailable, match=words),
    ):
        open_products(sqs_settings(aws_endpoint_url=server.url))


@pytest.mark.parametrize(
    ("code", "message", "named"),
    [
        ("InvalidSignatureException", "The request signature we calculated", "SQS_SECRET_KEY"),
        ("InvalidSignatureException", "should be scoped to a valid region", "AWS_REGION"),
        ("405", "", "AWS_ENDPOINT_URL"),
    ],
)
def test_a_refusal_that_only_a_setting_can_mend_is_told_by_its_words(
    code: str, message: str, named: str
) -> None:
    with Refusing(code, 403, message) as server, pytest.raises(ConfigurationError) as refused:
        open_products(sqs_settings(aws_endpoint_url=server.url))

    assert refused.value.setting == named


def test_a_token_of_aws_beside_our_own_keys_is_pointed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("SQS_ACCESS_KEY", "key")
    with (
        Refusing("UnrecognizedClientException", 403) as server,
        pytest.raises(ConfigurationError, match="set SQS_SESSION_TOKEN"),
    ):
        open_products(sqs_settings(aws_endpoint_url=server.url))


def test_an_endpoint_by_tls_that_has_none_is_refused(elasticmq_url: str) -> None:
    url = elasticmq_url.replace("http", "https")
    with pytest.raises(ConfigurationError, match="asks for TLS") as refused:
        open_products(sqs_settings(aws_endpoint_url=url))

    assert refused.value.setting == "AWS_ENDPOINT_URL"


def test_an_endpoint_without_tls_that_has_nothing_else_is_refused(tmp_path: Path) -> None:
    with (
        tls_server(Authority(tmp_path).issue()) as port,
        pytest.raises(ConfigurationError, match="write https://") as refused,
    ):
        open_products(sqs_settings(aws_endpoint_url=f"http://127.0.0.1:{port}"))

    assert refused.value.setting == "AWS_ENDPOINT_URL"


def test_an_endpoint_of_an_unknown_ca_names_the_file_for_it(tmp_path: Path) -> None:
    with (
        tls_server(Authority(tmp_path).issue()) as port,
        pytest.raises(ConfigurationError, match="certificate verify failed") as refused,
    ):
        open_products(sqs_settings(aws_endpoint_url=f"https://127.0.0.1:{port}"))

    assert refused.value.setting == "AWS_CA_BUNDLE"


@pytest.mark.parametrize(
    ("variable", "content"),
    [
        ("AWS_CONFIG_FILE", b"[default]\nregion = a\nregion = b\n"),
        ("AWS_CONFIG_FILE", b"region = a\n"),
        ("AWS_CONFIG_FILE", b"[default]\nregion = \xe9\n"),
        ("AWS_CONFIG_FILE", "[default]\n".encode("utf-16")),
        ("AWS_SHARED_CREDENTIALS_FILE", b"[default]\nx = a\nx = b\n"),
        ("AWS_CONFIG_FILE", b"[default]\ncredential_process = /no/such/program\n"),
        ("AWS_CONFIG_FILE", b"[default]\ncredential_process = /bin/echo no-json\n"),
        ("AWS_CONFIG_FILE", b"[default]\nrole_arn = a\nsource_profile = nobody\n"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", None),
    ],
)
def test_a_file_of_aws_that_cannot_be_used_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, content: bytes | None
) -> None:
    file = tmp_path / "aws"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv(variable, str(file))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/any")
    with pytest.raises(ConfigurationError) as refused:
        open_products(
            sqs_settings(
                sqs_access_key=None, sqs_secret_key=None, aws_endpoint_url="http://127.0.0.1:1"
            )
        )

    assert refused.value.setting == variable


@pytest.mark.parametrize(
    ("endpoint_url", "lag_seconds"), [(None, 60.0), ("http://127.0.0.1:1", 0.0)]
)
def test_the_counts_of_aws_lag_and_those_of_other_servers_do_not(
    monkeypatch: pytest.MonkeyPatch, endpoint_url: str | None, lag_seconds: float
) -> None:
    monkeypatch.setattr(opening, "_check_queues", lambda *_: None)
    queue = open_products(sqs_settings(aws_endpoint_url=endpoint_url))
    queue.close()

    assert queue.counts_lag_seconds == lag_seconds


def test_refused_credentials_do_not_end_a_worker_that_runs() -> None:
    with Refusing("AccessDenied") as server:
        queue = SqsQueue(
            sqs_client(sqs_settings(aws_endpoint_url=server.url)),
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
    unreachable = sqs_settings(aws_endpoint_url=f"http://127.0.0.1:{port}")
    started_at = time.monotonic()

    with pytest.raises(QueueUnavailable):
        open_products(unreachable)

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


def test_the_dead_letter_queue_is_found_in_the_redrive_policy(
    elasticmq_url: str, urls: QueueUrls
) -> None:
    queue = open_products(
        sqs_settings(aws_endpoint_url=elasticmq_url, sqs_queue_url=urls.queue_url)
    )
    queue.close()

    assert queue.dead_letter_queue_url == urls.dead_letter_queue_url


def test_a_dead_letter_queue_that_is_set_comes_before_the_policy(
    elasticmq_url: str, client: Any, urls: QueueUrls
) -> None:
    other = client.create_queue(QueueName=f"other-{uuid.uuid4().hex}")["QueueUrl"]
    queue = open_products(
        sqs_settings(
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
    queue = open_products(
        sqs_settings(aws_endpoint_url=elasticmq_url, sqs_queue_url=bare, data_dir=tmp_path / "data")
    )
    [received] = queue.receive(1, 5)
    queue.copy_rejected(received, REJECTED)
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
        open_products(sqs_settings(**configured))

    assert refused.value.setting == named


def test_a_dead_letter_queue_is_another_queue(elasticmq_url: str, urls: QueueUrls) -> None:
    configured = sqs_settings(
        aws_endpoint_url=elasticmq_url,
        sqs_queue_url=urls.queue_url,
        sqs_dead_letter_queue_url=urls.queue_url,
    )
    with pytest.raises(ConfigurationError, match="the queue that it should serve"):
        open_products(configured)


def test_a_redrive_policy_that_is_too_eager_is_told(
    elasticmq_url: str, urls: QueueUrls, caplog: pytest.LogCaptureFixture
) -> None:
    configured = sqs_settings(
        aws_endpoint_url=elasticmq_url, sqs_queue_url=urls.queue_url, max_attempts=12
    )
    open_products(configured).close()

    assert "maxReceiveCount should be above MAX_ATTEMPTS" in caplog.text
