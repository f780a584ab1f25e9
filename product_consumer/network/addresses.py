"""URLs and hosts as operators write them: what can never be one is told before anything connects.

Every check raises ``ValueError`` in words for a person, and never quotes a URL: it may hold a
password.
"""

import ipaddress
import re
import socket
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f]")
# Underscores are in the names of containers, other letters in international names.
_LABEL = re.compile(r"[\w-]{1,63}")
_MOST_CHARACTERS = 253
_LAST_PORT = 65_535


def check_url(url: str, schemes: Collection[str], example: str) -> str:
    """Return a URL that has one of these schemes, a possible host and a possible port."""
    if _UNPRINTABLE.search(url):
        raise ValueError(f"has a space or a control character: needs a URL such as {example}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"needs a URL such as {example}") from None
    if "://" not in url or parts.scheme not in schemes:
        known = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"needs a URL that starts with {known}, such as {example}")
    _check_port(parts)
    check_host(parts.hostname or "")
    return url


def check_host(host: str) -> str:
    """Return a name or an address that a host can have, whether it can be resolved now or not."""
    if not host:
        raise ValueError("names no host")
    if _is_address(host):
        return host
    labels = host.removesuffix(".").split(".")
    if len(host) > _MOST_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("its host is not a name that a host can have")
    if labels[-1].isdecimal() and not _is_short_ipv4(host):
        raise ValueError("its host looks like an address, and is none")
    return host


def check_port(text: str) -> int:
    """Return the number of a port."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LAST_PORT):
        raise ValueError(f"its port is no number from 1 to {_LAST_PORT}")
    return int(text)


def shown(host: str, port: int) -> str:
    """Return ``host:port`` for a person; an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_port(parts: SplitResult) -> None:
    host_and_port = parts.netloc.rpartition("@")[2]
    _, bracket, rest = host_and_port.rpartition("]")
    before, separator, port = rest.partition(":")
    if bracket and before:
        raise ValueError("its host is not a name that a host can have")
    if not separator or not port:
        return
    try:
        check_port(port)
    except ValueError as error:
        hint = ""
        if "@" in parts.path or "@" in parts.query or "@" in parts.fragment:
            hint = " (in a password, write / as %2F, ? as %3F and # as %23)"
        raise ValueError(f"{error}{hint}") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_short_ipv4(host: str) -> bool:
    """Whether it is an older form of an IPv4 address, such as 127.1."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True
