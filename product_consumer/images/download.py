"""One download: its requests through redirects, each judged before and while it is made.

Every connection is judged when its socket is opened, by the address it really goes to. So neither a
redirect, nor a name whose DNS answer changes, nor an odd spelling leads to a forbidden address.
libcurl itself parses the URL and connects with the parsed handle, so no two parsers disagree.
"""

import logging
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import pycurl

from product_consumer.errors import ImageRejected, ImageUnavailable, ProductConsumerError
from product_consumer.images.address_rules import Network, is_allowed
from product_consumer.images.response import Response, empty_image, refusal, too_large
from product_consumer.images.url_rules import (
    ascii_host,
    check_destination,
    check_spelling,
    percent_encoded,
    redirect_target,
)

log = logging.getLogger(__name__)

MAX_REDIRECTS: Final = 5

_CONNECT_TIMEOUT_SECONDS = 5.0
_FEW_ATTEMPTS = 3
_REQUEST_HEADERS = [
    "Accept: image/jpeg,image/png,image/webp,image/gif,image/*;q=0.8,*/*;q=0.5",
    "Accept-Encoding: identity",
]
_STOP_READING = -1

_TLS_FAILURES = frozenset(
    {
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_ISSUER_ERROR,
        pycurl.E_SSL_INVALIDCERTSTATUS,
    }
)
_FAILURES = {
    pycurl.E_OPERATION_TIMEDOUT: "image_timeout",
    pycurl.E_COULDNT_CONNECT: "image_connect",
    pycurl.E_PARTIAL_FILE: "image_incomplete",
    pycurl.E_GOT_NOTHING: "image_connection_lost",
    pycurl.E_RECV_ERROR: "image_connection_lost",
    pycurl.E_SEND_ERROR: "image_connection_lost",
    pycurl.E_UNSUPPORTED_PROTOCOL: "image_not_http",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "image_not_http",
}


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A URL, and the validators of the copy that is already known, if any.

    With ``etag`` or ``last_modified`` the request is conditional (RFC 9110 13.1).
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None

    @property
    def headers(self) -> list[str]:
        """Its conditions as header lines."""
        lines = []
        if self.etag:
            lines.append(f"If-None-Match: {self.etag}")
        if self.last_modified:
            lines.append(f"If-Modified-Since: {self.last_modified}")
        return lines


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """An image as a server sent it, with its validators for the next request."""

    data: bytes
    """The file, not decoded."""
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class NotModified:
    """The result of a conditional request whose known copy is still current."""


FetchResult = FetchedImage | NotModified | ProductConsumerError


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of an ``ImageFetcher``, whose docstring explains them."""

    allowed_networks: tuple[Network, ...]
    allowed_ports: frozenset[int]
    timeout_seconds: float
    max_bytes: int
    missing_grace_seconds: int
    user_agent: str
    ca_file: str
    resolve: tuple[str, ...]


class Download:
    """The download of one URL, through redirects. For one thread.

    ``result`` is final once ``is_done``; errors are results, not raised.
    """

    def __init__(self, request: ImageRequest, rules: Rules) -> None:
        self.result: FetchResult = ImageUnavailable("fetcher_closed")
        self.is_done = False
        self._request = request
        self._rules = rules
        self._redirects = 0
        self._deadline = time.monotonic() + rules.timeout_seconds
        self._sockets: list[socket.socket] = []
        self._target: Any = None
        self._begin_request()
        self._go_to(request.url)

    def prepare(self, curl: Any) -> None:
        """Set every option of the next request on a fresh or reset handle."""
        remaining_ms = max(1, int((self._deadline - time.monotonic()) * 1000))
        self._begin_request()
        set_fixed_options(curl, self._rules)
        curl.setopt(pycurl.HTTPHEADER, [*_REQUEST_HEADERS, *self._request.headers])
        curl.setopt(pycurl.CURLU, self._target)
        curl.setopt(pycurl.TIMEOUT_MS, remaining_ms)
        curl.setopt(
            pycurl.CONNECTTIMEOUT_MS, min(remaining_ms, int(_CONNECT_TIMEOUT_SECONDS * 1000))
        )
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        curl.setopt(pycurl.WRITEFUNCTION, self._on_body)

    def conclude(self, code: int, message: str) -> None:
        """End one request: with a result, or with the next hop of a redirect.

        ``code``, ``message``: of libcurl.
        """
        self.release_sockets()
        response = self._response
        if response.refusal is not None:
            self.finish(response.refusal)
        elif response.location:
            self._follow(response.location)
        elif response.status == 304 and self._request.headers:
            self.finish(NotModified())
        elif response.status not in (0, 200):
            grace = self._rules.missing_grace_seconds
            self.finish(refusal(response.status, response.headers, grace))
        elif code != pycurl.E_OK:
            self.finish(self._failure(code, message))
        else:
            etag, last_modified = response.validators()
            image = FetchedImage(response.body, etag, last_modified)
            self.finish(image if image.data else empty_image())

    def finish(self, result: FetchResult) -> None:
        """Set the result; no further request is made."""
        self.result = result
        self.is_done = True
        self._begin_request()

    def release_sockets(self) -> None:
        """Close our socket objects; libcurl works on duplicates."""
        for opened in self._sockets:
            opened.close()
        self._sockets.clear()

    def _begin_request(self) -> None:
        self._response = Response(self._rules.max_bytes)
        self._address_refused = False
        self._address_tried = False

    def _go_to(self, url: str) -> None:
        try:
            self._target = parse_url(url, self._rules)
        except ImageRejected as error:
            self.finish(error)

    def _follow(self, location: str) -> None:
        self._redirects += 1
        was_encrypted = self._target.scheme == "https"
        if self._redirects > MAX_REDIRECTS:
            self.finish(ImageRejected("too_many_redirects", f"more than {MAX_REDIRECTS}"))
        elif time.monotonic() >= self._deadline:
            self.finish(ImageUnavailable("image_timeout", "in a redirect"))
        else:
            self._go_to(redirect_target(self._target.url, location))
            if not self.is_done and was_encrypted and self._target.scheme != "https":
                self.finish(ImageRejected("redirect_downgrade", "from https to http"))

    def _failure(self, code: int, message: str) -> ProductConsumerError:
        if code == pycurl.E_FILESIZE_EXCEEDED:
            return too_large(self._rules.max_bytes)
        if code in _TLS_FAILURES:
            return _few_attempts("tls", message)
        if code == pycurl.E_COULDNT_RESOLVE_HOST:
            return _few_attempts("dns", message)
        if self._address_refused and not self._address_tried:
            return ImageRejected("image_url_blocked_address", "no address of the host is allowed")
        return ImageUnavailable(_FAILURES.get(code, "image_transfer"), message)

    # The callbacks below run inside libcurl, where an exception would only be printed.

    def _open_socket(self, purpose: int, peer: Any) -> Any:
        del purpose
        if not is_allowed(ip_address(peer.addr[0]), self._rules.allowed_networks):
            self._address_refused = True
            return pycurl.SOCKET_BAD
        self._address_tried = True
        try:
            opened = socket.socket(peer.family, peer.socktype, peer.protocol)
        except OSError as error:
            log.warning("no socket for an image download: %s", error)
            return pycurl.SOCKET_BAD
        self._sockets.append(opened)
        return opened

    def _on_header(self, line: bytes) -> int | None:
        return None if self._response.take_header_line(line) else _STOP_READING

    def _on_body(self, chunk: bytes) -> int | None:
        return None if self._response.take_body(chunk) else _STOP_READING


def set_fixed_options(curl: Any, rules: Rules) -> None:
    """Set what is the same for every request to an address that somebody else chose."""
    options = {
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.FOLLOWLOCATION: 0,
        # An empty value turns off the proxy variables: behind a proxy no address can be judged.
        pycurl.PROXY: "",
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        pycurl.NOSIGNAL: 1,
        pycurl.HTTP09_ALLOWED: 0,
        # One download per connection at a time: on HTTP/2 a hostile stream could stall others.
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.MAXFILESIZE_LARGE: rules.max_bytes,
        pycurl.BUFFERSIZE: 64 * 1024,
        pycurl.USERAGENT: rules.user_agent,
        pycurl.CAINFO: rules.ca_file,
        pycurl.RESOLVE: list(rules.resolve),
    }
    for option, value in options.items():
        curl.setopt(option, value)


def parse_url(url: str, rules: Rules) -> Any:
    """Return a ``pycurl.CurlUrl`` that may be connected to; raises ``ImageRejected``."""
    check_spelling(url)
    try:
        target = pycurl.CurlUrl(percent_encoded(url).encode(), pycurl.U_URLENCODE)
        if target.zoneid is not None:
            raise ImageRejected("image_url_blocked_address", "an address with a zone is link-local")
        # libcurl's wheel has no IDN. Setting the host turns any spelling of IPv4 into four numbers.
        target.setpart(pycurl.UPART_HOST, ascii_host(target.host))
        port = int(target.getpart(pycurl.UPART_PORT, pycurl.U_DEFAULT_PORT))
    except pycurl.error as error:
        raise ImageRejected("image_url_invalid", str(error.args[-1])) from error
    check_destination(target.host, port, rules.allowed_networks, rules.allowed_ports)
    return target


def _few_attempts(reason: str, message: str) -> ImageUnavailable:
    return ImageUnavailable(reason, message, max_attempts=_FEW_ATTEMPTS, final_reason=reason)
