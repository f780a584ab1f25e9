"""Addresses: what a host, a port or a URL can be, and what can never be one."""

import pytest

from product_consumer.network.addresses import check_host, check_url, shown


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "db", "db.example.com", "db.example.com.", "my_db-1", "10.0.0.1", "127.1"),
        *("::1", "fe80::1", "dữ-liệu.example", "sqs.invalid", "x" * 63, "1.example"),
    ],
)
def test_a_name_that_may_be_resolved_later_is_a_host(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "data base",
            "db..example.com",
            ".example.com",
            "x" * 64,
            "x." * 150 + "y",
            "300.1.1.1",
        ),
        *("1.2.3.4.5", "db/1", "db:5432:1", "a,b", "tcp:", "db\n"),
    ],
)
def test_a_name_that_nothing_can_have_is_no_host(host: str) -> None:
    with pytest.raises(ValueError, match="host"):
        check_host(host)


@pytest.mark.parametrize(
    "url",
    ["http://h", "https://h:1", "http://u:p%40@h:65535/a/b?c=d", "http://[::1]:9200", "HTTP://H"],
)
def test_a_url_is_taken(url: str) -> None:
    assert check_url(url, ("http", "https"), "http://host") == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("h:9200", "starts with http:// or https://"),
        ("htp://h", "starts with http:// or https://"),
        ("http//h", "starts with"),
        ("http:h", "starts with"),
        ("http://", "names no host"),
        ("http://:9200", "names no host"),
        ("http://h:0", "no number from 1 to 65535"),
        ("http://h:99999", "no number from 1 to 65535"),
        ("http://h:tcp://10.0.0.1:19530", "no number from 1 to 65535"),
        ("http://h:-1", "no number from 1 to 65535"),
        ("http://h:\u0661", "no number from 1 to 65535"),
        ("http://u:p/w@h", "in a password, write / as %2F"),
        ("http://a b", "space"),
        ("http://h\x00", "control character"),
        ("http://[::1", "needs a URL"),
        ("http://[::1]x", "needs a URL|host"),
        ("http://a:1,http://b:2", "port"),
    ],
)
def test_what_can_never_be_a_url_is_told(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_url(url, ("http", "https"), "http://host")


def test_no_problem_quotes_a_password() -> None:
    with pytest.raises(ValueError) as told:
        check_url("http://user:sec/ret@host:1", ("http",), "http://host")

    assert "sec" not in str(told.value)


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert (shown("::1", 80), shown("127.0.0.1", 80)) == ("[::1]:80", "127.0.0.1:80")
