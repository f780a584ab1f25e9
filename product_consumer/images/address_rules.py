"""Decides which addresses an image may come from: public ones, and those the operator allows.

Sources: the IANA special-purpose registries for IPv4 and IPv6, and the cloud providers' metadata
addresses. ``ipaddress.is_global`` alone is not enough: it calls NAT64, 6to4, multicast and Azure's
wire server global.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

METADATA_HOSTS = frozenset(
    {"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"}
)
"""Names of cloud metadata services, refused before DNS is asked."""

_BLOCKED_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is Alibaba's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's wire server, in public space but only reachable from inside
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_UNICAST_IPV6 = IPv6Network("2000::/3")
# Other forms that carry IPv4 (mapped, compatible, translated, both NAT64 prefixes) lie outside it.
_BLOCKED_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, among them Teredo, which carries IPv4
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries IPv4
        "3fff::/20",
    )
)
# Upper half of an interface id of ISATAP, which carries IPv4 (RFC 5214, section 6.1).
_ISATAP_PREFIXES = (0x00005EFE, 0x02005EFE)


def is_allowed(address: Address, allowed_networks: Sequence[Network] = ()) -> bool:
    """Return True inside ``allowed_networks`` and for other machines' global unicast addresses.

    An IPv4-mapped IPv6 address is judged by its IPv4 address, which is where the kernel connects.
    An IPv6 address with a zone is link-local and never allowed.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        address = address.ipv4_mapped or address
    if _is_inside(address, allowed_networks):
        return True
    return _is_public(address) and not is_own(address)


def is_own(address: Address) -> bool:
    """Return True when this machine itself has the address, public or not.

    Connecting a UDP socket sends nothing. The kernel only picks a source address; for an address of
    this machine it picks the same address.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False


def parse_host(host: str) -> Address | None:
    """Return the address that a URL's host spells, with or without brackets; None for a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _is_inside(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in _unmapped(network) for network in networks)


def _unmapped(network: Network) -> Network:
    """Return ``::ffff:10.0.0.0/104`` as 10.0.0.0/8, because addresses are unwrapped too."""
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        start = network.network_address.ipv4_mapped
        if start is not None:
            return ip_network((start, network.prefixlen - 96))
    return network


def _is_public(address: Address) -> bool:
    if not address.is_global:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _BLOCKED_IPV4)
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP_PREFIXES:
        return False
    return address in _GLOBAL_UNICAST_IPV6 and not any(
        address in network for network in _BLOCKED_IPV6
    )
