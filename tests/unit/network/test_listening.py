"""Sockets that listen: IPv4, IPv6, and which setting is wrong."""

import socket

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.network.listening import listen


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("::1", socket.AF_INET6),
        ("[::1]", socket.AF_INET6),
        ("::", socket.AF_INET6),
    ],
)
def test_an_address_of_either_family_is_listened_at(host: str, family: int) -> None:
    with listen(host, 0, "METRICS") as listening:
        assert listening.family == family


def test_every_address_of_ipv6_takes_ipv4_too() -> None:
    with listen("::", 0, "METRICS") as listening:
        port = listening.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_port_in_use_names_the_port() -> None:
    with listen("127.0.0.1", 0, "API") as taken, pytest.raises(ConfigurationError) as refused:
        listen("127.0.0.1", taken.getsockname()[1], "API")

    assert refused.value.setting == "API_PORT"


@pytest.mark.parametrize("host", ["nothing.invalid", "192.0.2.1", "2001:db8::1"])
def test_an_address_that_is_not_ours_names_the_host(host: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        listen(host, 0, "METRICS")

    assert refused.value.setting == "METRICS_HOST"
