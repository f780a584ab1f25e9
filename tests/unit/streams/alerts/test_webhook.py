import json
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from product_consumer.errors import ImageRejected
from product_consumer.streams.alerts.webhook import AlertFailed, Webhook
from tests.support.hostile_server import (
    Behaviour,
    HostileServer,
    redirect,
    repeat,
    reply,
    reset,
    silence,
)

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as running:
        yield running


def webhook(server: HostileServer, **options: Any) -> Webhook:
    settings: dict[str, Any] = {"allowed_networks": LOOPBACK, "timeout_seconds": 5.0}
    return Webhook(server.url("/hook"), **(settings | options))


def failure(subject: Webhook) -> AlertFailed:
    with pytest.raises(AlertFailed) as caught:
        subject.post("{}")
    return caught.value


@pytest.mark.parametrize("status", [200, 201, 202, 204, 303])
def test_json_is_posted(server: HostileServer, status: int) -> None:
    server.routes["/hook"] = reply(status)
    body = json.dumps({"kind": "anomaly", "text": "é"})
    webhook(server).post(body)
    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook HTTP/1.1")
    assert b"content-type: application/json" in head.lower()
    assert sent == body.encode()


@pytest.mark.parametrize(
    ("behaviour", "reason", "is_passing"),
    [
        (reply(500), "http_500", True),
        (reply(429), "http_429", True),
        (reply(404), "http_404", False),
        (reply(301), "http_301", False),
        (reset(), "connection", True),
        (
            redirect("http://169.254.169.254/latest/meta-data"),
            "redirect_url_blocked_address",
            False,
        ),
        (redirect("http://metadata.google.internal/"), "redirect_url_blocked_address", False),
        (redirect("http://10.0.0.1/", 307), "redirect_url_blocked_address", False),
        (redirect("ftp://127.0.0.1/"), "redirect_url_scheme", False),
        (redirect("http://127.0.0.1:1/"), "redirect_url_port", False),
        (redirect("/hook", 308), "too_many_redirects", False),
    ],
)
def test_what_is_not_taken_has_a_reason(
    server: HostileServer, behaviour: Behaviour, reason: str, is_passing: bool
) -> None:
    server.routes["/hook"] = behaviour
    error = failure(webhook(server))
    assert (error.reason, error.is_passing) == (reason, is_passing)


def test_a_redirect_to_an_allowed_address_is_followed_with_the_body(server: HostileServer) -> None:
    server.routes["/hook"] = redirect("/there", 307)
    server.routes["/there"] = reply(200)
    webhook(server).post('{"a": 1}')
    assert server.requests[1].startswith(b"POST /there ")


def test_a_server_that_hangs_is_left_after_the_timeout(server: HostileServer) -> None:
    server.routes["/hook"] = silence()
    error = failure(webhook(server, timeout_seconds=0.3))
    assert (error.reason, error.is_passing) == ("timeout", True)


def test_a_request_ends_when_the_time_is_over(server: HostileServer) -> None:
    server.routes["/hook"] = silence()
    over = threading.Event()
    over.set()
    assert failure(webhook(server, is_over=over.is_set)).reason == "stopped"


def test_an_endless_answer_is_not_read_to_its_end(server: HostileServer) -> None:
    server.routes["/hook"] = repeat(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    webhook(server).post("{}")


def test_a_private_address_is_refused_before_anything_is_sent(server: HostileServer) -> None:
    with pytest.raises(ImageRejected, match="blocked_address"):
        webhook(server, allowed_networks=())


def test_a_name_that_leads_to_a_private_address_is_refused(server: HostileServer) -> None:
    subject = Webhook(
        server.url("/hook", host="hooks.example"),
        allowed_networks=(),
        timeout_seconds=5.0,
        resolve=[f"hooks.example:{server.port}:127.0.0.1"],
    )
    error = failure(subject)
    assert (error.reason, error.is_passing) == ("blocked_address", False)
    assert server.connections == 0


def test_a_url_with_a_password_is_refused() -> None:
    with pytest.raises(ImageRejected, match="credentials"):
        Webhook("https://user:password@host/", allowed_networks=(), timeout_seconds=5.0)
