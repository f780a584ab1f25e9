"""Counts and settings from the management API, and an API that does not answer as it should."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.queues.rabbitmq.management import Management
from product_consumer.queues.rabbitmq.url import Node

NODE = Node("rabbit", 5672, False, "me", "pass", "my/host")


class Api:
    """A stand-in for the API that answers every question in the same way."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        self.asked: list[tuple[str, str]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.asked.append((self.path, self.headers["Authorization"]))
                self.send_response(api.status)
                self.end_headers()
                self.wfile.write(api.body)

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    yield api
    api.close()


def management(api: Api, login: str = "") -> Management:
    return Management(f"http://{login}127.0.0.1:{api.port}/", NODE)


def test_messages_in_any_hand_are_counted(api: Api) -> None:
    api.body = b'{"messages_unacknowledged": 7}'

    assert management(api).unacknowledged("a/b") == 7
    assert api.asked[0][0] == "/api/queues/my%2Fhost/a%2Fb"


def test_the_login_is_that_of_the_queue_unless_the_url_has_one(api: Api) -> None:
    management(api).unacknowledged("q")
    management(api, "other:p%40ss@").unacknowledged("q")

    assert [login for _, login in api.asked] == ["Basic bWU6cGFzcw==", "Basic b3RoZXI6cEBzcw=="]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"arguments": {"x-consumer-timeout": 8000}}', "8000 ms"),
        (b'{"effective_policy_definition": {"consumer-timeout": 9000}}', "9000 ms"),
        (b'{"effective_policy_definition": []}', ""),
    ],
)
def test_the_consumer_timeout_is_told_where_it_is_set(api: Api, body: bytes, told: str) -> None:
    api.body = body

    assert management(api).consumer_timeout("q") == told


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (404, b"{}"), (302, b""), (200, b"[1]"), (200, b"<html>")]
)
def test_an_answer_that_is_none_is_an_outage(api: Api, status: int, body: bytes) -> None:
    api.status, api.body = status, body

    with pytest.raises(QueueUnavailable, match="the management API answers"):
        management(api).unacknowledged("q")


def test_a_refused_login_names_the_setting(api: Api) -> None:
    api.status = 401

    with pytest.raises(ConfigurationError, match="RABBITMQ_MANAGEMENT_URL"):
        management(api).unacknowledged("q")


def test_an_api_that_is_down_is_an_outage_without_its_url() -> None:
    with pytest.raises(QueueUnavailable) as down:
        Management("http://me:s3cret@127.0.0.1:1", NODE).unacknowledged("q")

    assert "s3cret" not in str(down.value)
