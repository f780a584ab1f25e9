import os
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import ImageRejected, ImageUnavailable, ProductConsumerError
from product_consumer.images.download import FetchedImage, FetchResult, ImageRequest, NotModified
from product_consumer.images.fetcher import ImageFetcher
from product_consumer.images.response import retry_after_seconds
from tests.support.hostile_server import (
    Behaviour,
    HostileServer,
    redirect,
    repeat,
    reply,
    reset,
    send,
    silence,
)

TIMEOUT_SECONDS = 1.0
MAX_BYTES = 200_000
PICTURE = b"\xff\xd8\xff picture"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer({"/ok": reply(200, PICTURE)}) as running:
        yield running


def make_fetcher(*servers: HostileServer, **changes: Any) -> ImageFetcher:
    """A fetcher that may reach exactly these servers; ``changes`` go to its constructor."""
    options: dict[str, Any] = {
        "allowed_networks": [ip_network(server.host) for server in servers],
        "allowed_ports": {80, 443} | {server.port for server in servers},
        "timeout_seconds": TIMEOUT_SECONDS,
        "max_bytes": MAX_BYTES,
        "missing_grace_seconds": 120,
    }
    return ImageFetcher(**options | changes)


def fetch(server: HostileServer, path: str, **changes: Any) -> bytes | ProductConsumerError:
    return fetch_url(make_fetcher(server, **changes), server.url(path))


def bodies(fetcher: ImageFetcher, urls: Sequence[str]) -> list[bytes | ProductConsumerError]:
    """Fetch without conditions: the bytes of each image, or its error."""
    results: list[bytes | ProductConsumerError] = []
    for result in fetcher.fetch_all([ImageRequest(url) for url in urls]):
        assert not isinstance(result, NotModified)
        results.append(result.data if isinstance(result, FetchedImage) else result)
    return results


def fetch_url(fetcher: ImageFetcher, url: str) -> bytes | ProductConsumerError:
    try:
        return bodies(fetcher, [url])[0]
    finally:
        fetcher.close()


def assert_rejected(result: object, reason: str) -> None:
    assert isinstance(result, ImageRejected), result
    assert result.reason == reason


def assert_retried(
    result: object, reason: str, *, attempts: int | None = None, final: str | None = None
) -> None:
    assert isinstance(result, ImageUnavailable), result
    assert result.reason == reason
    assert result.max_attempts == attempts
    assert result.final_reason == (final or f"retries_exhausted:{reason}")


def test_the_body_of_an_image_arrives_whole(server: HostileServer) -> None:
    body = os.urandom(MAX_BYTES)
    server.routes["/big"] = reply(200, body)

    assert fetch(server, "/big") == body


def test_results_come_in_the_order_of_the_urls(server: HostileServer) -> None:
    server.routes["/gone"] = reply(404)
    urls = [server.url("/gone"), server.url("/ok"), "file:///etc/passwd"]

    gone, ok, refused = bodies(make_fetcher(server), urls)

    assert_retried(gone, "http_404", attempts=3, final="http_404")
    assert ok == PICTURE
    assert_rejected(refused, "image_url_scheme")


def test_no_urls_give_no_results(server: HostileServer) -> None:
    assert bodies(make_fetcher(server), []) == []


def test_a_url_that_occurs_twice_is_fetched_once(server: HostileServer) -> None:
    results = bodies(make_fetcher(server), [server.url("/ok")] * 3)

    assert results == [PICTURE] * 3
    assert len(server.requests) == 1


def test_downloads_of_one_batch_overlap(server: HostileServer) -> None:
    barrier = threading.Barrier(4, timeout=5)

    def wait_for_the_others(connection: Any, stopped: threading.Event) -> bool:
        barrier.wait()
        return reply(200, PICTURE)(connection, stopped)

    server.routes |= {f"/{number}": wait_for_the_others for number in range(4)}

    results = bodies(make_fetcher(server), [server.url(f"/{number}") for number in range(4)])

    assert results == [PICTURE] * 4


def test_a_connection_is_kept_between_calls(server: HostileServer) -> None:
    fetcher = make_fetcher(server)

    for _ in range(5):
        assert bodies(fetcher, [server.url("/ok")]) == [PICTURE]

    assert server.connections == 1
    fetcher.close()


def test_many_threads_share_one_fetcher(server: HostileServer) -> None:
    fetcher = make_fetcher(server)
    results: list[Sequence[object]] = []

    def work() -> None:
        for _ in range(3):
            results.append(bodies(fetcher, [server.url("/ok"), server.url("/missing")]))

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    fetcher.close()

    assert [first for first, _ in results] == [PICTURE] * 30
    assert all(isinstance(second, ImageUnavailable) for _, second in results)


def test_file_descriptors_are_given_back(server: HostileServer) -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    server.routes |= {"/reset": reset(), "/loop": redirect("/loop"), "/short": send(b"HTTP/1.1 ")}
    urls = [server.url(path) for path in ("/ok", "/reset", "/loop", "/short", "/missing")]
    fetcher = make_fetcher(server)
    bodies(fetcher, urls)
    before = open_descriptors()

    for _ in range(40):
        bodies(fetcher, [*urls, "http://127.0.0.9/"])

    # The server's side of up to 16 idle connections lives in this process too.
    assert open_descriptors() <= before + 2 * 16
    fetcher.close()


def test_the_request_asks_for_plain_bytes_and_sends_no_cookies(server: HostileServer) -> None:
    server.routes["/cookie"] = reply(302, location="/ok", set_cookie="id=1; path=/")

    assert fetch(server, "/cookie") == PICTURE

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

        assert fetch(server, "/ok") == PICTURE
        assert proxy.connections == 0


def test_letters_outside_ascii_in_a_path_are_sent_percent_encoded(server: HostileServer) -> None:
    server.routes["/%E1%BA%A3nh.jpg?c%E1%BB%A1=1"] = reply(200, PICTURE)

    assert fetch(server, "/ảnh.jpg?cỡ=1") == PICTURE


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "image_url_scheme"),
        ("ftp://cdn.example/a.jpg", "image_url_scheme"),
        ("gopher://cdn.example/a.jpg", "image_url_scheme"),
        ("data:image/png;base64,AAAA", "image_url_scheme"),
        ("data:image/png;base64," + "A" * 100_000, "image_url_scheme"),
        ("jar:http://cdn.example!/a.jpg", "image_url_scheme"),
        ("javascript:alert(1)", "image_url_scheme"),
        ("http://good@127.0.0.1/", "image_url_credentials"),
        ("http://user:password@cdn.example/", "image_url_credentials"),
        ("http://@cdn.example/", "image_url_credentials"),
        ("http://good\\@127.0.0.1/", "image_url_invalid"),
        ("http://cdn.example/a b.jpg", "image_url_invalid"),
        ("http://cdn.example/a.jpg\r\nX-Header: 1", "image_url_invalid"),
        ("http://cdn\t.example/a.jpg", "image_url_invalid"),
        ("http://cdn.example/a\x00.jpg", "image_url_invalid"),
        ("http://cdn.example/\ud800.jpg", "image_url_invalid"),
        (" http://cdn.example/", "image_url_invalid"),
        ("//cdn.example/x", "image_url_invalid"),
        ("images/a.jpg", "image_url_invalid"),
        ("", "image_url_invalid"),
        ("http:", "image_url_invalid"),
        ("http:///x", "image_url_invalid"),
        ("http:/cdn.example/x", "image_url_invalid"),
        ("http://[::1", "image_url_invalid"),
        ("http://cdn.example:99999/", "image_url_invalid"),
        ("http://cdn%0a.example/", "image_url_invalid"),
        ("http://.../", "image_url_invalid"),
        ("http://\u0301a.example/", "image_url_invalid"),
        ("http://cdn.example:22/", "image_url_port"),
        ("http://cdn.example:6379/", "image_url_port"),
        ("http://cdn.example:0/", "image_url_port"),
        ("http://cdn.example/" + "a" * 8192, "image_url_too_long"),
        ("http://cdn.example/" + "₫" * 1500, "image_url_too_long"),
        ("http://127.0.0.1/", "image_url_blocked_address"),
        ("http://0.0.0.0/", "image_url_blocked_address"),
        ("http://[::1]/", "image_url_blocked_address"),
        ("http://2130706433/", "image_url_blocked_address"),
        ("http://0x7f000001/", "image_url_blocked_address"),
        ("http://0x7f.1/", "image_url_blocked_address"),
        ("http://017700000001/", "image_url_blocked_address"),
        ("http://127.1/", "image_url_blocked_address"),
        ("http://127.0.0.1./", "image_url_blocked_address"),
        ("http://%31%32%37.0.0.1/", "image_url_blocked_address"),
        ("http://0/", "image_url_blocked_address"),
        ("http://①②⑦.⓪.⓪.①/", "image_url_blocked_address"),
        ("http://127。0。0。1/", "image_url_blocked_address"),
        ("http://[::ffff:169.254.169.254]/", "image_url_blocked_address"),
        ("http://[64:ff9b::a9fe:a9fe]/", "image_url_blocked_address"),
        ("http://[::127.0.0.1]/", "image_url_blocked_address"),
        ("http://[2002:7f00:1::]/", "image_url_blocked_address"),
        ("http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/", "image_url_blocked_address"),
        ("http://[fe80::1%25eth0]/", "image_url_blocked_address"),
        ("http://169.254.169.254/latest/meta-data/", "image_url_blocked_address"),
        ("http://[fd00:ec2::254]/", "image_url_blocked_address"),
        ("http://100.100.100.200/", "image_url_blocked_address"),
        ("http://168.63.129.16/", "image_url_blocked_address"),
        ("http://metadata.google.internal/", "image_url_blocked_address"),
        ("http://METADATA.google.internal./", "image_url_blocked_address"),
        ("http://10.0.0.1/", "image_url_blocked_address"),
        ("http://100.64.0.1/", "image_url_blocked_address"),
        ("http://224.0.0.1/", "image_url_blocked_address"),
        ("http://240.0.0.1/", "image_url_blocked_address"),
    ],
)
def test_a_forbidden_url_is_rejected_without_asking_a_server(url: str, reason: str) -> None:
    fetcher = make_fetcher()

    with pytest.raises(ImageRejected) as caught:
        fetcher.check_url(url)

    assert caught.value.reason == reason
    assert_rejected(fetch_url(fetcher, url), reason)


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/a.jpg?signature=a%2Fb&x=1#part",
        "HTTP://CDN.EXAMPLE:80/a.jpg",
        "https://bücher.example/ảnh.jpg",
        "http://8.8.8.8/a_(1)[2]|{3}.jpg",
        "https://cdn.example/" + "a" * 4000,
    ],
)
def test_an_ordinary_url_passes_the_check(url: str) -> None:
    make_fetcher().check_url(url)


@given(st.text(max_size=60) | st.text(max_size=40).map("http://".__add__))
def test_any_text_passes_the_check_or_is_rejected(url: str) -> None:
    try:
        make_fetcher().check_url(url)
    except ImageRejected as error:
        assert error.reason.startswith("image_url_")


def test_localhost_is_refused_by_its_address(server: HostileServer) -> None:
    fetcher = make_fetcher(server, allowed_networks=[])

    assert_rejected(
        fetch_url(fetcher, server.url("/ok", host="localhost")), "image_url_blocked_address"
    )
    assert server.connections == 0


def test_a_name_that_resolves_to_a_forbidden_address_is_never_connected_to(
    server: HostileServer,
) -> None:
    fetcher = make_fetcher(
        server,
        allowed_networks=[ip_network("127.0.0.2")],
        resolve=[f"shop.example:{server.port}:127.0.0.1"],
    )

    result = fetch_url(fetcher, server.url("/ok", host="shop.example"))

    assert_rejected(result, "image_url_blocked_address")
    assert server.connections == 0


@pytest.mark.parametrize("answers", ["127.0.0.1,127.0.0.2", "127.0.0.2,127.0.0.1"])
def test_of_mixed_answers_only_the_allowed_address_is_connected_to(
    server: HostileServer, answers: str
) -> None:
    with HostileServer(server.routes, host="127.0.0.2", port=server.port) as public:
        fetcher = make_fetcher(public, resolve=[f"shop.example:{server.port}:{answers}"])

        assert fetch_url(fetcher, public.url("/ok", host="shop.example")) == PICTURE
        assert (public.connections, server.connections) == (1, 0)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://169.254.169.254/latest/", "image_url_blocked_address"),
        ("http://rebound.example/", "image_url_blocked_address"),
        ("//127.0.0.3/x", "image_url_blocked_address"),
        ("file:///etc/passwd", "image_url_scheme"),
        ("gopher://127.0.0.1/", "image_url_scheme"),
        ("http://cdn.example:6379/", "image_url_port"),
        ("http://user@cdn.example/", "image_url_credentials"),
        ("http://cdn.example\\@127.0.0.1/", "image_url_invalid"),
        ("http://[::1", "image_url_invalid"),
        ("http://cdn.example/" + "a" * 8192, "image_url_too_long"),
    ],
)
def test_every_redirect_is_checked_like_the_first_url(
    server: HostileServer, location: str, reason: str
) -> None:
    server.routes["/moved"] = redirect(location)

    assert_rejected(fetch(server, "/moved", resolve=["rebound.example:80:127.0.0.3"]), reason)


def test_a_redirect_to_a_forbidden_server_does_not_reach_it(server: HostileServer) -> None:
    with HostileServer(host="127.0.0.2") as public:
        public.routes["/moved"] = redirect(server.url("/ok"))
        fetcher = make_fetcher(public, allowed_ports={public.port, server.port})

        result = fetch_url(fetcher, public.url("/moved"))

    assert_rejected(result, "image_url_blocked_address")
    assert server.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["/ok", "ok", "?b", "../ok", "http://{host}/ok", "//{host}/ok"]
)
def test_a_redirect_is_followed(server: HostileServer, status: int, location: str) -> None:
    server.routes["/a"] = redirect(location.format(host=f"127.0.0.1:{server.port}"), status)
    server.routes["/a?b"] = reply(200, PICTURE)

    assert fetch(server, "/a") == PICTURE


def test_three_redirects_are_followed_and_a_fourth_is_not(server: HostileServer) -> None:
    server.routes |= {f"/{hops}": redirect(f"/{hops - 1}") for hops in range(1, 5)}
    server.routes["/0"] = reply(200, PICTURE)

    assert fetch(server, "/3") == PICTURE
    assert_rejected(fetch(server, "/4"), "too_many_redirects")


def test_a_redirect_loop_ends(server: HostileServer) -> None:
    server.routes["/loop"] = redirect("/loop")

    assert_rejected(fetch(server, "/loop"), "too_many_redirects")
    assert len(server.requests) == 4


def test_redirects_share_one_deadline(server: HostileServer) -> None:
    def dawdle(connection: Any, stopped: threading.Event) -> bool:
        stopped.wait(0.4)
        return redirect("/slow")(connection, stopped)

    server.routes["/slow"] = dawdle

    assert_retried(fetch(server, "/slow"), "image_timeout")


def test_a_redirect_without_a_location_is_rejected(server: HostileServer) -> None:
    server.routes["/moved"] = reply(302)

    assert_rejected(fetch(server, "/moved"), "http_302")


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
        pytest.param(silence(), id="no answer"),
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
    assert time.monotonic() - started < TIMEOUT_SECONDS + 2


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
        pytest.param(send(b""), "image_connection_lost", id="closed without an answer"),
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
def test_a_broken_answer_is_retried(server: HostileServer, behaviour: Any, reason: str) -> None:
    server.routes["/broken"] = behaviour

    assert_retried(fetch(server, "/broken"), reason)


def test_a_refused_connection_is_retried(server: HostileServer) -> None:
    url = server.url("/ok")
    server.close()

    assert_retried(fetch_url(make_fetcher(server), url), "image_connect")


def test_a_name_without_an_address_is_rejected_as_dns_after_three_attempts() -> None:
    result = fetch_url(make_fetcher(), "http://shop.invalid/a.jpg")

    assert_retried(result, "dns", attempts=3, final="dns")


@pytest.mark.parametrize("encoding", ["gzip", "br", "x-unknown", "identity, gzip"])
def test_a_content_encoding_is_rejected(server: HostileServer, encoding: str) -> None:
    server.routes["/packed"] = reply(200, b"\x1f\x8b", content_encoding=encoding)

    assert_rejected(fetch(server, "/packed"), "content_encoding")


def test_the_identity_encoding_is_accepted(server: HostileServer) -> None:
    server.routes["/plain"] = reply(200, PICTURE, content_encoding="Identity")

    assert fetch(server, "/plain") == PICTURE


def test_a_wrong_content_type_does_not_matter(server: HostileServer) -> None:
    server.routes["/page"] = reply(200, PICTURE, content_type="text/html")

    assert fetch(server, "/page") == PICTURE


def test_an_interim_answer_is_passed_over(server: HostileServer) -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    answer += b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    server.routes["/hint"] = send(answer)

    assert fetch(server, "/hint") == b"ok"


@pytest.mark.parametrize("status", [200, 204])
def test_an_empty_image_is_retried_twice(server: HostileServer, status: int) -> None:
    server.routes["/empty"] = reply(status)

    assert_retried(fetch(server, "/empty"), "image_empty", attempts=3, final="image_empty")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_a_passing_failure_is_retried(server: HostileServer, status: int) -> None:
    server.routes["/busy"] = reply(status, b"come back")

    result = fetch(server, "/busy")

    assert_retried(result, f"http_{status}")
    assert isinstance(result, ImageUnavailable)
    assert result.delay_seconds is None


@pytest.mark.parametrize(("asked", "delay"), [("30", 30.0), ("86400", 900.0), ("soon", None)])
def test_retry_after_is_honoured_up_to_fifteen_minutes(
    server: HostileServer, asked: str, delay: float | None
) -> None:
    server.routes["/busy"] = reply(503, retry_after=asked)

    result = fetch(server, "/busy")

    assert isinstance(result, ImageUnavailable)
    assert result.delay_seconds == delay


def test_retry_after_may_be_a_date() -> None:
    in_two_minutes = format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True)

    delay = retry_after_seconds(in_two_minutes)

    assert delay is not None
    assert 60 < delay <= 120
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") is None


@given(st.text() | st.text("0123456789", min_size=1, max_size=6000))
def test_any_retry_after_is_a_bounded_delay_or_none(text: str) -> None:
    delay = retry_after_seconds(text)

    assert delay is None or 0 < delay <= 900


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_missing_image_is_looked_for_three_times_within_the_grace(
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
    answer = f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n"
    server.routes["/other"] = send(answer.encode())

    assert_rejected(fetch(server, "/other"), f"http_{status}")


def test_the_status_counts_even_when_the_body_of_a_failure_never_ends(
    server: HostileServer,
) -> None:
    server.routes["/gone"] = repeat(b"HTTP/1.1 404 No\r\n\r\n", b"x" * 1000)

    assert_retried(fetch(server, "/gone"), "http_404", attempts=3, final="http_404")


def make_certificate(folder: Path, *, days: int = 1) -> tuple[ssl.SSLContext, str]:
    """A server's context and the PEM file of its self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    end = datetime.now(UTC) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=10))
        .not_valid_after(end)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return context, str(certificate_file)


def test_a_trusted_certificate_is_accepted(tmp_path: Path) -> None:
    context, authority = make_certificate(tmp_path)
    with HostileServer({"/ok": reply(200, PICTURE)}, tls=context) as server:
        assert fetch(server, "/ok", ca_file=authority) == PICTURE


def test_a_self_signed_certificate_is_rejected_as_tls_after_three_attempts(tmp_path: Path) -> None:
    context, _ = make_certificate(tmp_path)
    with HostileServer({"/ok": reply(200, PICTURE)}, tls=context) as server:
        assert_retried(fetch(server, "/ok"), "tls", attempts=3, final="tls")
        assert server.requests == []


def test_an_expired_certificate_is_rejected_as_tls_after_three_attempts(tmp_path: Path) -> None:
    context, authority = make_certificate(tmp_path, days=-1)
    with HostileServer({"/ok": reply(200, PICTURE)}, tls=context) as server:
        assert_retried(fetch(server, "/ok", ca_file=authority), "tls", attempts=3, final="tls")


def test_a_redirect_from_https_to_http_is_rejected(tmp_path: Path, server: HostileServer) -> None:
    context, authority = make_certificate(tmp_path)
    with HostileServer({"/moved": redirect(server.url("/ok"))}, tls=context) as encrypted:
        fetcher = make_fetcher(server, encrypted, ca_file=authority)

        assert_rejected(fetch_url(fetcher, encrypted.url("/moved")), "redirect_downgrade")
        assert server.connections == 0


def test_close_ends_downloads_that_are_under_way(server: HostileServer) -> None:
    asked = threading.Event()

    def stall(connection: Any, stopped: threading.Event) -> bool:
        asked.set()
        return silence()(connection, stopped)

    server.routes["/slow"] = stall
    fetcher = make_fetcher(server, timeout_seconds=50.0)
    results: list[bytes | ProductConsumerError] = []
    thread = threading.Thread(target=lambda: results.extend(bodies(fetcher, [server.url("/slow")])))
    thread.start()
    assert asked.wait(10)

    fetcher.close()
    thread.join(timeout=10)

    assert_retried(results[0], "fetcher_closed")
    assert_retried(bodies(fetcher, [server.url("/ok")])[0], "fetcher_closed")


MODIFIED = "Sat, 21 Nov 2026 14:30:05 GMT"


def fetch_known(behaviour: Behaviour, **validators: str) -> tuple[FetchResult, bytes]:
    """One request that carries validators; its result, and the bytes that the server received."""
    with HostileServer({"/known": behaviour}) as server:
        fetcher = make_fetcher(server)
        [result] = fetcher.fetch_all([ImageRequest(server.url("/known"), **validators)])
        fetcher.close()
        return result, server.requests[0]


def test_the_validators_of_an_image_come_with_it() -> None:
    later = "Sat, 21 Nov 2026 14:30:08 GMT"
    headers = {"etag": '"v1"', "last_modified": MODIFIED, "date": later}
    result, request = fetch_known(reply(200, PICTURE, **headers))

    assert result == FetchedImage(PICTURE, '"v1"', MODIFIED)
    assert b"If-" not in request


@pytest.mark.parametrize("date", [MODIFIED, "Sat, 21 Nov 2026 14:30:06 GMT", "yesterday"])
def test_the_date_of_a_picture_that_may_still_be_changing_is_no_validator(date: str) -> None:
    result, _ = fetch_known(reply(200, PICTURE, last_modified=MODIFIED, date=date))

    assert result == FetchedImage(PICTURE, None, None)


def test_a_known_picture_is_asked_for_conditionally() -> None:
    result, request = fetch_known(reply(304), etag='W/"v1"', last_modified=MODIFIED)

    assert result == NotModified()
    assert b'If-None-Match: W/"v1"\r\n' in request
    assert f"If-Modified-Since: {MODIFIED}\r\n".encode() in request


def test_a_picture_that_has_changed_is_sent_whole() -> None:
    result, _ = fetch_known(reply(200, PICTURE, etag='"v2"'), etag='"v1"')

    assert result == FetchedImage(PICTURE, '"v2"', None)


def test_not_modified_is_no_answer_to_a_request_without_conditions() -> None:
    result, _ = fetch_known(reply(304))

    assert_rejected(result, "http_304")


@pytest.mark.parametrize("etag", ["x" * 600, "caf\u00e9", ""])
def test_a_validator_that_could_not_be_sent_back_is_not_kept(etag: str) -> None:
    data = f"HTTP/1.1 200 OK\r\nContent-Length: {len(PICTURE)}\r\nETag: {etag}\r\n\r\n"
    result, _ = fetch_known(send(data.encode() + PICTURE))

    assert result == FetchedImage(PICTURE, None, None)
