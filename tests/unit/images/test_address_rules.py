from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.images.address_rules import is_allowed, is_own, parse_host

PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0"]
PUBLIC += ["192.167.255.255", "223.255.255.255", "2606:4700:4700::1111", "::ffff:8.8.8.8"]

NOT_PUBLIC = [
    address
    for line in (
        "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1",
        "127.255.255.255 168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.0 172.31.255.255",
        "192.0.0.8 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1",
        "203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1",
        "::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe 64:ff9b::808:808 64:ff9b:1::7f00:1 100::1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe 2001:2::1 2001:10::1 2001:20::1 2001:db8::1",
        "2002:7f00:1:: 2606:4700::5efe:7f00:1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1",
        "fe80::1%lo fec0::1 ff02::1",
    )
    for address in line.split()
]

PRIVATE_IPV4 = st.sampled_from(
    ["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
).flatmap(lambda network: st.ip_addresses(v=4, network=network))
CARRIERS = {
    "mapped": lambda v4, rest: (0xFFFF << 32) | v4,
    "compatible": lambda v4, rest: v4,
    "translated": lambda v4, rest: (0xFFFF << 48) | v4,
    "nat64": lambda v4, rest: (0x64FF9B << 96) | v4,
    "local nat64": lambda v4, rest: (0x64FF9B0001 << 80) | (rest % (1 << 48) << 32) | v4,
    "6to4": lambda v4, rest: (0x2002 << 112) | (v4 << 80) | rest % (1 << 80),
    "teredo server": lambda v4, rest: (0x20010000 << 96) | (v4 << 64) | rest % (1 << 64),
    "teredo client": lambda v4, rest: (0x20010000 << 96) | (v4 ^ 0xFFFFFFFF),
    "isatap": lambda v4, rest: (0x26064700 << 96) | (0x5EFE << 32) | v4,
}


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed(ip_address(address))


@pytest.mark.parametrize("carrier", CARRIERS)
@given(inside=PRIVATE_IPV4, rest=st.integers(0, (1 << 96) - 1))
def test_a_private_ipv4_address_inside_an_ipv6_address_is_refused(
    carrier: str, inside: IPv4Address, rest: int
) -> None:
    address = IPv6Address(CARRIERS[carrier](int(inside), rest))

    assert not is_allowed(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_mapped_address_is_judged_like_its_ipv4_address(inside: IPv4Address) -> None:
    assert is_allowed(IPv6Address(f"::ffff:{inside}")) == is_allowed(inside)


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_outside_global_unicast_is_refused(address: IPv6Address) -> None:
    public = is_allowed(address)

    assert not public or address in ip_network("2000::/3") or address.ipv4_mapped


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
@pytest.mark.parametrize("network", ["10.1.0.0/16", "::ffff:10.1.0.0/112"])
def test_the_operator_can_allow_a_private_network(address: str, network: str) -> None:
    assert is_allowed(ip_address(address), [ip_network(network)])


def test_an_allowed_network_allows_nothing_beside_it() -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")]

    assert is_allowed(ip_address("fd00:1::5"), allowed)
    assert not is_allowed(ip_address("10.2.0.1"), allowed)
    assert not is_allowed(ip_address("fd00:2::5"), allowed)


def test_a_link_local_address_with_a_zone_is_refused_even_from_an_allowed_network() -> None:
    assert not is_allowed(ip_address("fe80::1%eth0"), [ip_network("fe80::/10")])


def test_a_public_address_of_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("product_consumer.images.address_rules.is_own", lambda address: True)

    assert not is_allowed(ip_address("8.8.8.8"))


def test_this_machine_knows_its_own_address() -> None:
    assert is_own(ip_address("127.0.0.1"))
    assert not is_own(ip_address("8.8.8.8"))


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("cdn.example", None), ("", None)],
)
def test_a_host_is_an_address_or_a_name(host: str, address: str | None) -> None:
    assert parse_host(host) == (ip_address(address) if address else None)
