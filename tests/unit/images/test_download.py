"""One download: the result of each response of a server."""

import time
from typing import Any

import pytest

from product_consumer.errors import ImageUnavailable
from tests.support.hostile_server import (
    HostileServer,
    repeat,
    reply,
    reset,
    send,
    silence,
)
from tests.support.image_fetching import (
    IMAGE_BYTES,
    MAX_BYTES,
    TIMEOUT_SECONDS,
    assert_rejected,
    assert_retried,
    fetch,
    fetch_url,
    make_fetcher,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_the_request_asks_for_plain_bytes_and_sends_no_cookies(server: HostileServer) -> None:
    server.routes["/cookie"] = reply(302, location="/ok", set_cookie="id=1; path=/")

    assert fetch(server, "/cookie") == IMAGE_BYTES

    request = server.requests[-1].lower()
    assert b"accept-encoding: identity" in request
    assert b"cookie" not in request
    assert b"user-agent: product-consumer/" in request


def test_proxy_variables_are_ignored(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HostileServer() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())

        assert fetch(server, "/ok") == IMAGE_BYTES
        assert proxy.connections == 0


def test_characters_that_strict_servers_refuse_are_sent_percent_encoded(
    server: HostileServer,
) -> None:
    server.routes["/tv-50%22%3C%3E%5E%60%7B%7D.jpg?q=%22%27"] = reply(200, IMAGE_BYTES)

    assert fetch(server, '/tv-50"<>^`{}.jpg?q="\'') == IMAGE_BYTES


def test_letters_outside_ascii_in_a_path_are_sent_percent_encoded(server: HostileServer) -> None:
    server.routes["/%E1%BA%A3nh.jpg?c%E1%BB%A1=1"] = reply(200, IMAGE_BYTES)

    assert fetch(server, "/ảnh.jpg?cỡ=1") == IMAGE_BYTES


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(repeat(CHUNKED, b"8000\r\n" + b"x" * 0x8000 + b"\r\n"), id="endless chunks"),
        pytest.param(
            repeat(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 65_536), id="endless without length"
        ),
        pytest.param(
            send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), id="announced"
        ),
        pytest.param(
            send(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n"), id="overflow"
        ),
        pytest.param(reply(200, b"x" * (MAX_BYTES + 1)), id="one byte too many"),
    ],
)
def test_a_body_over_the_limit_is_rejected(server: HostileServer, behaviour: Any) -> None:
    server.routes["/large"] = behaviour

    assert_rejected(fetch(server, "/large"), "image_too_large")


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(silence(), id="no response"),
        pytest.param(repeat(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 0.05), id="dripping headers"),
        pytest.param(repeat(CHUNKED, b"1\r\nx\r\n", 0.05), id="dripping body"),
        pytest.param(repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05), id="dripping 100s"),
    ],
)
def test_a_server_that_stalls_is_cut_off_at_the_deadline(
    server: HostileServer, behaviour: Any
) -> None:
    server.routes["/slow"] = behaviour
    started = time.monotonic()

    result = fetch(server, "/slow")

    assert_retried(result, "image_timeout")
    # The server would go on for half a minute.
    assert time.monotonic() - started < TIMEOUT_SECONDS + 10


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        pytest.param(
            send(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc"),
            "image_incomplete",
            id="short",
        ),
        pytest.param(send(CHUNKED + b"10\r\nabc"), "image_incomplete", id="short chunk"),
        pytest.param(reset(), "image_connection_lost", id="reset"),
        pytest.param(
            reset(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc"),
            "image_connection_lost",
            id="reset in the body",
        ),
        pytest.param(send(b""), "image_connection_lost", id="closed without a response"),
        pytest.param(send(b"SSH-2.0-OpenSSH_9.9\r\n"), "image_not_http", id="ssh banner"),
        pytest.param(send(b"HTTP/1.1 abc\r\n\r\n"), "image_not_http", id="broken status"),
        pytest.param(
            send(b"HTTP/1.1 200 OK\r\n" + (b"X-A: " + b"b" * 65_000 + b"\r\n") * 256),
            "image_headers",
            id="256 headers of 64 KB",
        ),
        pytest.param(
            repeat(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 200 + b"\r\n"),
            "image_headers",
            id="endless headers",
        ),
        pytest.param(
            repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50), "image_headers", id="endless 100s"
        ),
    ],
)
def test_a_broken_response_is_retried(server: HostileServer, behaviour: Any, reason: str) -> None:
    server.routes["/broken"] = behaviour

    assert_retried(fetch(server, "/broken"), reason)


def test_a_refused_connection_is_retried(server: HostileServer) -> None:
    url = server.url("/ok")
    server.close()

    assert_retried(fetch_url(make_fetcher(server), url), "image_connect")


def test_a_name_without_an_address_is_rejected_as_dns_after_three_attempts() -> None:
    result = fetch_url(make_fetcher(), "http://shop.invalid/a.jpg")

    assert_retried(result, "dns", attempts=3, final="dns")


def test_a_content_encoding_is_rejected(server: HostileServer) -> None:
    server.routes["/packed"] = reply(200, b"\x1f\x8b", content_encoding="gzip")

    assert_rejected(fetch(server, "/packed"), "content_encoding")


def test_a_label_that_is_no_coding_is_ignored(server: HostileServer) -> None:
    server.routes["/plain"] = reply(200, IMAGE_BYTES, content_encoding="UTF-8")

    assert fetch(server, "/plain") == IMAGE_BYTES


def test_a_wrong_content_type_does_not_matter(server: HostileServer) -> None:
    server.routes["/page"] = reply(200, IMAGE_BYTES, content_type="text/html")

    assert fetch(server, "/page") == IMAGE_BYTES


def test_an_interim_response_is_skipped(server: HostileServer) -> None:
    responses = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    responses += b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    server.routes["/hint"] = send(responses)

    assert fetch(server, "/hint") == b"ok"


@pytest.mark.parametrize("status", [200, 204, 205])
def test_an_empty_image_is_retried_twice(server: HostileServer, status: int) -> None:
    server.routes["/empty"] = reply(status)

    assert_retried(fetch(server, "/empty"), "image_empty", attempts=3, final="image_empty")


@pytest.mark.parametrize("status", [202, 408, 423, 429, 500, 503, 599])
def test_a_passing_failure_is_retried(server: HostileServer, status: int) -> None:
    server.routes["/busy"] = reply(status, b"come back")

    result = fetch(server, "/busy")

    assert_retried(result, f"http_{status}")
    assert isinstance(result, ImageUnavailable)
    assert result.delay_seconds is None


@pytest.mark.parametrize("status", [202, 409])
def test_a_server_that_names_a_time_is_asked_again_then(server: HostileServer, status: int) -> None:
    server.routes["/busy"] = reply(status, retry_after="30")

    result = fetch(server, "/busy")

    assert_retried(result, f"http_{status}")
    assert isinstance(result, ImageUnavailable)
    assert result.delay_seconds == 30


@pytest.mark.parametrize(("header", "delay"), [("30", 30.0), ("86400", 900.0), ("soon", None)])
def test_retry_after_is_honoured_up_to_fifteen_minutes(
    server: HostileServer, header: str, delay: float | None
) -> None:
    server.routes["/busy"] = reply(503, retry_after=header)

    result = fetch(server, "/busy")

    assert isinstance(result, ImageUnavailable)
    assert result.delay_seconds == delay


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_missing_image_is_tried_three_times_within_the_grace(
    server: HostileServer, status: int
) -> None:
    server.routes["/gone"] = reply(status, b"<html>")

    result = fetch(server, "/gone", missing_grace_seconds=120)

    assert_retried(result, f"http_{status}", attempts=3, final=f"http_{status}")
    assert isinstance(result, ImageUnavailable)
    assert result.delay_seconds == 60


@pytest.mark.parametrize("status", [403, 404, 410])
def test_without_grace_a_missing_image_is_rejected_at_once(
    server: HostileServer, status: int
) -> None:
    server.routes["/gone"] = reply(status)

    assert_rejected(fetch(server, "/gone", missing_grace_seconds=0), f"http_{status}")


@pytest.mark.parametrize("status", [206, 300, 304, 400, 401, 405, 415, 451])
def test_any_other_status_is_rejected(server: HostileServer, status: int) -> None:
    response = f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n"
    server.routes["/other"] = send(response.encode())

    assert_rejected(fetch(server, "/other"), f"http_{status}")


def test_the_status_counts_even_when_the_body_of_a_failure_never_ends(
    server: HostileServer,
) -> None:
    server.routes["/gone"] = repeat(b"HTTP/1.1 404 No\r\n\r\n", b"x" * 1000)

    assert_retried(fetch(server, "/gone"), "http_404", attempts=3, final="http_404")
