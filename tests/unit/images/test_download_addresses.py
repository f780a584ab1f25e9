"""One download: which addresses it may reach, through redirects and TLS too."""

import threading
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import ImageRejected
from tests.support.certificates import make_certificate
from tests.support.hostile_server import (
    HostileServer,
    redirect,
    reply,
    send,
)
from tests.support.image_fetching import (
    IMAGE_BYTES,
    assert_rejected,
    assert_retried,
    fetch,
    fetch_url,
    make_fetcher,
)


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

        assert fetch_url(fetcher, public.url("/ok", host="shop.example")) == IMAGE_BYTES
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
        ("http://cdn.example/" + " " * 2000 + "a", "image_url_too_long"),
        ("http://127.0.0.3 /", "image_url_invalid"),
        ("http://cdn .example/", "image_url_invalid"),
        ("http://cdn.example/a\\b.jpg", "image_url_invalid"),
        ("http://cdn.example/a\x01b.jpg", "image_url_invalid"),
        ("http:\t//127.0.0.3/", "image_url_blocked_address"),
        ("http://127.0.\t0.3/", "image_url_blocked_address"),
        ("\x1ffile:///etc/pass wd", "image_url_scheme"),
        ('http://user"@cdn.example/', "image_url_credentials"),
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
    server.routes["/a?b"] = reply(200, IMAGE_BYTES)

    assert fetch(server, "/a") == IMAGE_BYTES


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/red mug.jpg", "/red%20mug.jpg"),
        ("/<a>{b}`c^.jpg?<d>{e}`f^", "/%3Ca%3E%7Bb%7D%60c%5E.jpg?%3Cd%3E{e}`f^"),
        ("/caf\u00e9\u00a0noir.jpg", "/caf%C3%A9%C2%A0noir.jpg"),
        ("http://{host}/red mug.jpg", "/red%20mug.jpg"),
    ],
)
def test_the_name_of_a_file_in_a_redirect_is_sent_as_browsers_do(
    server: HostileServer, location: str, path: str
) -> None:
    location = location.replace("{host}", f"127.0.0.1:{server.port}")
    server.routes |= {"/moved": redirect(location), path: reply(200, IMAGE_BYTES)}

    assert fetch(server, "/moved") == IMAGE_BYTES


def test_a_redirect_in_an_older_encoding_goes_back_as_it_came(server: HostileServer) -> None:
    server.routes["/moved"] = send(
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /caf\xe9.jpg\r\n\r\n"
    )
    server.routes["/caf%E9.jpg"] = reply(200, IMAGE_BYTES)

    assert fetch(server, "/moved") == IMAGE_BYTES


def test_five_redirects_are_followed_and_a_sixth_is_not(server: HostileServer) -> None:
    server.routes |= {f"/{hops}": redirect(f"/{hops - 1}") for hops in range(1, 7)}
    server.routes["/0"] = reply(200, IMAGE_BYTES)

    assert fetch(server, "/5") == IMAGE_BYTES
    assert_rejected(fetch(server, "/6"), "too_many_redirects")


def test_a_redirect_loop_ends(server: HostileServer) -> None:
    server.routes["/loop"] = redirect("/loop")

    assert_rejected(fetch(server, "/loop"), "too_many_redirects")
    assert len(server.requests) == 6


def test_redirects_share_one_deadline(server: HostileServer) -> None:
    def dawdle(connection: Any, stopped: threading.Event) -> bool:
        stopped.wait(0.4)
        return redirect("/slow")(connection, stopped)

    server.routes["/slow"] = dawdle

    assert_retried(fetch(server, "/slow"), "image_timeout")


def test_a_redirect_without_a_location_is_rejected(server: HostileServer) -> None:
    server.routes["/moved"] = reply(302)

    assert_rejected(fetch(server, "/moved"), "http_302")


def test_a_trusted_certificate_is_accepted(tmp_path: Path) -> None:
    context, authority = make_certificate(tmp_path)
    with HostileServer({"/ok": reply(200, IMAGE_BYTES)}, tls=context) as server:
        assert fetch(server, "/ok", ca_file=authority) == IMAGE_BYTES


def test_a_self_signed_certificate_is_rejected_as_tls_after_three_attempts(tmp_path: Path) -> None:
    context, _ = make_certificate(tmp_path)
    with HostileServer({"/ok": reply(200, IMAGE_BYTES)}, tls=context) as server:
        assert_retried(fetch(server, "/ok"), "tls", attempts=3, final="tls")
        assert server.requests == []


def test_an_expired_certificate_is_rejected_as_tls_after_three_attempts(tmp_path: Path) -> None:
    context, authority = make_certificate(tmp_path, days=-1)
    with HostileServer({"/ok": reply(200, IMAGE_BYTES)}, tls=context) as server:
        assert_retried(fetch(server, "/ok", ca_file=authority), "tls", attempts=3, final="tls")


def test_a_redirect_from_https_to_http_is_rejected(tmp_path: Path, server: HostileServer) -> None:
    context, authority = make_certificate(tmp_path)
    with HostileServer({"/moved": redirect(server.url("/ok"))}, tls=context) as encrypted:
        fetcher = make_fetcher(server, encrypted, ca_file=authority)

        assert_rejected(fetch_url(fetcher, encrypted.url("/moved")), "redirect_downgrade")
        assert server.connections == 0
