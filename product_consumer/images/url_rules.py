"""Rules for the text of an image URL, and for the host and port that it names."""

import re
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import quote, urljoin

import idna

from product_consumer.errors import ImageRejected
from product_consumer.images.address_rules import METADATA_HOSTS, Network, is_allowed, parse_host

MAX_URL_BYTES: Final = 4096
"""Signed URLs of object stores, the longest in use, reach about 2,500 bytes."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HTTP_AUTHORITY = re.compile(r"https?://([^/?#]+)", re.IGNORECASE)
# White space, control characters, the backslash that parsers disagree on, and lone surrogates.
_FORBIDDEN_CHARACTERS = re.compile("[\\s\\\\\x00-\x20\x7f-\xa0\ud800-\udfff]")

_BEFORE_PATH = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?)")
_BEFORE_QUERY = re.compile(r"([^?#]*)")
# The sets of WHATWG URL 1.3, as far as libcurl would send a character of them as it is.
_ENCODED_IN_PATHS = re.compile(r"(?![\0-\x1f])[\s\x7f-\xa0\"<>^`{}]")
_ENCODED_IN_QUERIES = re.compile(r"(?![\0-\x1f])[\s\x7f-\xa0\"<>']")
_IGNORED_AT_THE_ENDS = "".join(map(chr, range(0x21)))
_IGNORED_EVERYWHERE = str.maketrans("", "", "\t\r\n")


def check_spelling(url: str) -> None:
    """Refuse every URL that two parsers could read differently; raises ``ImageRejected``."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ImageRejected("image_url_invalid", "not an absolute URL")
    if scheme[1].lower() not in ("http", "https"):
        raise ImageRejected("image_url_scheme", "only http and https")
    if len(url.encode(errors="replace")) > MAX_URL_BYTES:
        raise ImageRejected("image_url_too_long", f"more than {MAX_URL_BYTES} bytes")
    if _FORBIDDEN_CHARACTERS.search(url):
        raise ImageRejected("image_url_invalid", "spaces, control characters or a backslash")
    authority = _HTTP_AUTHORITY.match(url)
    if authority is None:
        raise ImageRejected("image_url_invalid", "no host")
    if "@" in authority[1]:
        raise ImageRejected("image_url_credentials", "user or password in the URL")


def ascii_host(host: str) -> str:
    """Return ``host`` as DNS knows it: IDNA 2008 after the mapping of UTS 46.

    The result may be an IP address that was written in other digits. Raises ``ImageRejected``.
    """
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise ImageRejected("image_url_invalid", "the host is not a host name") from error


def check_destination(
    host: str,
    port: int,
    allowed_networks: Sequence[Network],
    allowed_ports: Collection[int],
) -> None:
    """Refuse a port, a metadata service's name or a literal address; raises ``ImageRejected``.

    Other names are judged by their addresses when a connection is opened.
    """
    if port not in allowed_ports:
        raise ImageRejected("image_url_port", f"port {port}")
    address = parse_host(host)
    if address is None:
        if host.lower().rstrip(".") in METADATA_HOSTS:
            raise ImageRejected("image_url_blocked_address", "a metadata service")
    elif not is_allowed(address, allowed_networks):
        raise ImageRejected("image_url_blocked_address", str(address))


def percent_encoded(url: str) -> str:
    """Return ``url`` with those characters of path and query encoded that a browser encodes.

    Scheme, user, host and port stay as they are.
    """
    _, start, rest = _BEFORE_PATH.split(url, maxsplit=1)
    _, path, query = _BEFORE_QUERY.split(rest, maxsplit=1)
    path = _ENCODED_IN_PATHS.sub(_encoded, path)
    return start + path + _ENCODED_IN_QUERIES.sub(_encoded, query)


def redirect_target(base: str, location: str) -> str:
    """Return the absolute URL that a Location header names; "" for a malformed header.

    It is cleaned as browsers do it, because servers write names of files there as they are. The
    result has yet to pass every check of a first URL.
    """
    cleaned = location.strip(_IGNORED_AT_THE_ENDS).translate(_IGNORED_EVERYWHERE)
    try:
        return urljoin(base, percent_encoded(cleaned))
    except ValueError:
        return ""


def _encoded(found: re.Match[str]) -> str:
    return quote(found[0])
