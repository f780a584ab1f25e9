"""An image URL with two readings, or of a forbidden place, is refused."""

from ipaddress import ip_network
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import ImageRejected
from product_consumer.images.url_rules import (
    MAX_URL_BYTES,
    ascii_host,
    check_destination,
    check_spelling,
    percent_encoded,
    redirect_target,
)

PORTS = {80, 443}
ORDINARY = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._~%/?=&ảü", max_size=60)


def reason_of(url: str) -> str:
    with pytest.raises(ImageRejected) as caught:
        check_spelling(url)
    return caught.value.reason


def is_allowed(host: str, port: int = 443, *networks: str) -> bool:
    try:
        check_destination(host, port, [ip_network(network) for network in networks], PORTS)
    except ImageRejected:
        return False
    return True


@given(st.sampled_from(["http", "https", "HTTPS"]), ORDINARY)
def test_an_ordinary_spelling_is_accepted(scheme: str, path: str) -> None:
    check_spelling(f"{scheme}://cdn.example/{path}")


@given(ORDINARY, st.sampled_from(" \t\n\r\x00\x1f\x7f\\\u00a0\u2028\ud800"), ORDINARY)
def test_a_character_that_parsers_disagree_on_is_refused_wherever_it_is(
    before: str, character: str, after: str
) -> None:
    assert reason_of(f"https://cdn.example/{before}{character}{after}") == "image_url_invalid"


@given(ORDINARY.filter(lambda text: not set("/?") & set(text)))
def test_a_user_in_the_url_is_refused_and_an_at_sign_in_the_path_is_not(name: str) -> None:
    assert reason_of(f"https://{name}@cdn.example/a.jpg") == "image_url_credentials"
    check_spelling(f"https://cdn.example/{name}@2x.jpg")


def test_a_url_is_measured_in_bytes() -> None:
    fits = "https://cdn.example/".ljust(MAX_URL_BYTES, "x")
    check_spelling(fits)

    assert reason_of(fits + "x") == "image_url_too_long"
    assert reason_of(fits[:-1] + "ả") == "image_url_too_long"


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "data", "javascript", "httpx", "ws"])
def test_only_the_schemes_of_the_web_are_accepted(scheme: str) -> None:
    assert reason_of(f"{scheme}://cdn.example/") == "image_url_scheme"


@pytest.mark.parametrize("url", ["", "a.jpg", "/a.jpg", "//cdn.example/", "http:", "http:///a"])
def test_a_url_names_a_scheme_and_a_host(url: str) -> None:
    assert reason_of(url) == "image_url_invalid"


@pytest.mark.parametrize(
    ("host", "ascii_form"),
    [
        ("cdn.example", "cdn.example"),
        ("CDN.example", "CDN.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("①②⑦.⓪.⓪.①", "127.0.0.1"),
        ("127。0。0。1", "127.0.0.1"),
    ],
)
def test_a_host_is_written_as_dns_knows_it(host: str, ascii_form: str) -> None:
    assert ascii_host(host) == ascii_form


@given(st.text(min_size=1, max_size=30))
def test_any_host_is_ascii_afterwards_or_refused(host: str) -> None:
    try:
        assert ascii_host(host).isascii()
    except ImageRejected as error:
        assert error.reason == "image_url_invalid"


@pytest.mark.parametrize(("port", "is_open"), [(80, True), (443, True), (22, False), (0, False)])
def test_only_the_allowed_ports_are_asked(port: int, is_open: bool) -> None:
    assert is_allowed("cdn.example", port) is is_open


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[fd00::1]", "0.0.0.0"]
)
def test_a_literal_address_must_be_public_or_in_an_allowed_network(host: str) -> None:
    assert not is_allowed(host)
    assert is_allowed(host, 443, "0.0.0.0/0", "::/0")


@pytest.mark.parametrize("host", ["metadata.google.internal", "METADATA.google.internal."])
def test_a_metadata_service_is_refused_by_its_name_too(host: str) -> None:
    assert not is_allowed(host)


def test_another_name_is_judged_when_its_address_is_known() -> None:
    assert is_allowed("localhost")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://other.example/b.jpg", "https://other.example/b.jpg"),
        ("//other.example/b.jpg", "https://other.example/b.jpg"),
        ("/b.jpg", "https://cdn.example/b.jpg"),
        ("b.jpg?x=1", "https://cdn.example/images/b.jpg?x=1"),
        ("../b.jpg", "https://cdn.example/b.jpg"),
        ("http://[::1", ""),
        ("\t /b c.jpg\r\n", "https://cdn.example/b%20c.jpg"),
        ("?from=a\nb", "https://cdn.example/images/a.jpg?from=ab"),
        ("//other .example/b c", "https://other .example/b%20c"),
        (" /p.jpg?at=Jul 30\t", "https://cdn.example/p.jpg?at=Jul%2030"),
        ("/re\td.jpg", "https://cdn.example/red.jpg"),
        ("/a%20b%22c.jpg", "https://cdn.example/a%20b%22c.jpg"),
        ("/red mug.jpg#in front", "https://cdn.example/red%20mug.jpg#in%20front"),
        ("/5\".jpg?size='5\"'", "https://cdn.example/5%22.jpg?size=%275%22%27"),
    ],
)
def test_a_redirect_is_read_against_the_url_that_it_answers(location: str, target: str) -> None:
    assert redirect_target("https://cdn.example/images/a.jpg", location) == target


@given(st.text(max_size=30), st.text(max_size=30))
def test_encoding_touches_no_host_and_encodes_nothing_twice(host: str, rest: str) -> None:
    url = f"https://{host}/{rest}"
    encoded = percent_encoded(url)

    assert encoded.split("/")[:3] == url.split("/")[:3] or set("?#/") & set(host)
    assert percent_encoded(encoded) == encoded
    assert unquote(encoded, errors="surrogatepass") == unquote(url, errors="surrogatepass")
