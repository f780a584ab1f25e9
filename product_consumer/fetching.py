"""Image URL -> bytes, within address, byte, time and redirect limits. The only user of libcurl.

Every connection is judged when its socket is opened, by the address it really goes to, so neither
a redirect, nor a name that changes its answer, nor an odd spelling leads to a forbidden place.
URLs are parsed by libcurl itself and the parsed handle is what connects: no two parsers disagree.
"""

import logging
import socket
import threading
import time
import weakref
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import certifi
import pycurl

from product_consumer.addresses import Network, is_allowed
from product_consumer.errors import ImageRejected, ImageUnavailable, ProductConsumerError
from product_consumer.http_answers import Answer, empty_image, refusal, too_large
from product_consumer.image_urls import (
    ascii_host,
    check_destination,
    check_spelling,
    redirect_target,
)

log = logging.getLogger(__name__)

MAX_REDIRECTS: Final = 3
USER_AGENT: Final = "product-consumer/1.0"

_CONNECT_TIMEOUT_SECONDS = 5.0
_MAX_IDLE_CONNECTIONS = 16
_LONGEST_WAIT_SECONDS = 0.25
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
class _Rules:
    """What an ``ImageFetcher`` was constructed with."""

    allowed_networks: tuple[Network, ...]
    allowed_ports: frozenset[int]
    timeout_seconds: float
    max_bytes: int
    missing_grace_seconds: int
    user_agent: str
    ca_file: str
    resolve: tuple[str, ...]


class ImageFetcher:
    """Downloads images in parallel; one object serves any number of threads.

    Each calling thread has its own connections, kept alive between its calls.

    ``allowed_networks``: networks that may be reached although they are not public.
    ``allowed_ports``: the only ports that may be reached.
    ``timeout_seconds``: for one URL from start to end, redirects included.
    ``max_bytes``: of one body. A call holds at most ``len(urls) * max_bytes``.
    ``missing_grace_seconds``: see ``http_answers.refusal``.
    ``ca_file``: PEM file of trusted certificate authorities; None takes certifi's.
    ``resolve``: answers that replace DNS, ``host:port:address[,address]`` each, for tests.
    """

    def __init__(
        self,
        *,
        allowed_networks: Sequence[Network],
        allowed_ports: Collection[int],
        timeout_seconds: float,
        max_bytes: int,
        missing_grace_seconds: int,
        user_agent: str = USER_AGENT,
        ca_file: str | None = None,
        resolve: Sequence[str] = (),
    ) -> None:
        self._rules = _Rules(
            allowed_networks=tuple(allowed_networks),
            allowed_ports=frozenset(allowed_ports),
            timeout_seconds=timeout_seconds,
            max_bytes=max_bytes,
            missing_grace_seconds=missing_grace_seconds,
            user_agent=user_agent,
            # The path compiled into libcurl's wheel does not exist on every system.
            ca_file=ca_file or certifi.where(),
            resolve=tuple(resolve),
        )
        self._closed = threading.Event()
        self._local = threading.local()
        self._sessions: weakref.WeakSet[_Session] = weakref.WeakSet()
        self._sessions_lock = threading.Lock()

    def check_url(self, url: str) -> None:
        """Raise ``ImageRejected`` for a URL that would be refused without asking any server."""
        _parse_url(url, self._rules)

    def fetch_all(self, urls: Sequence[str]) -> list[bytes | ProductConsumerError]:
        """The body of each URL, or the error that its message deserves, in the order of ``urls``.

        A URL that occurs twice is fetched once. Returns within about ``timeout_seconds``, sooner
        when ``close`` is called meanwhile. Errors are ``ImageRejected`` and ``ImageUnavailable``.
        """
        downloads = {url: _Download(url, self._rules) for url in urls}
        self._session().run(downloads.values())
        return [downloads[url].result for url in urls]

    def close(self) -> None:
        """End every download and connection; later calls answer ``fetcher_closed``."""
        self._closed.set()
        with self._sessions_lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.dispose(timeout_seconds=4 * _LONGEST_WAIT_SECONDS)

    def _session(self) -> "_Session":
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            session = _Session(self._closed)
            self._local.session = session
            with self._sessions_lock:
                self._sessions.add(session)
        return session


class _Session:
    """The connections of one thread."""

    def __init__(self, closed: threading.Event) -> None:
        self._closed = closed
        self._busy = threading.Lock()
        self._multi: Any = None
        self._spare: list[Any] = []
        self._active: dict[Any, _Download] = {}

    def run(self, downloads: Iterable["_Download"]) -> None:
        """Drive ``downloads`` until each has its result."""
        with self._busy:
            try:
                for download in downloads:
                    self._advance(download)
                while self._active and not self._closed.is_set():
                    self._multi.perform()
                    self._collect()
                    self._wait()
            finally:
                self._abandon()
                if self._closed.is_set():
                    self._release_handles()

    def dispose(self, timeout_seconds: float) -> None:
        """Close all connections, unless the thread is inside ``run``, which then does so itself."""
        if self._busy.acquire(timeout=timeout_seconds):
            try:
                self._release_handles()
            finally:
                self._busy.release()

    def _advance(self, download: "_Download") -> None:
        """Send the next request of ``download``, if it needs one."""
        if download.is_done or self._closed.is_set():
            return
        if self._multi is None:
            self._multi = pycurl.CurlMulti()
            self._multi.setopt(pycurl.M_MAXCONNECTS, _MAX_IDLE_CONNECTIONS)
        curl = self._spare.pop() if self._spare else pycurl.Curl()
        try:
            download.prepare(curl)
            self._multi.add_handle(curl)
        except pycurl.error as error:
            curl.close()
            download.finish(ImageUnavailable("image_transfer", str(error.args[-1])))
        else:
            self._active[curl] = download

    def _collect(self) -> None:
        waiting = 1
        while waiting:
            waiting, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._settle(curl, pycurl.E_OK, "")
            for curl, code, message in failed:
                self._settle(curl, code, message)

    def _settle(self, curl: Any, code: int, message: str) -> None:
        download = self._active.pop(curl)
        self._multi.remove_handle(curl)
        download.conclude(code, message)
        curl.reset()
        self._spare.append(curl)
        self._advance(download)

    def _wait(self) -> None:
        if not self._active:
            return
        until_timer = self._multi.timeout() / 1000
        bound = min(until_timer, _LONGEST_WAIT_SECONDS) if until_timer >= 0 else 0.1
        # Without a socket to watch, select returns at once: do not spin.
        if bound > 0 and self._multi.select(bound) < 1:
            self._closed.wait(0.001)

    def _abandon(self) -> None:
        for curl, download in self._active.items():
            self._multi.remove_handle(curl)
            curl.close()
            download.release_sockets()
        self._active.clear()

    def _release_handles(self) -> None:
        for curl in self._spare:
            curl.close()
        self._spare.clear()
        if self._multi is not None:
            self._multi.close()
            self._multi = None


class _Download:
    """One URL on its way through redirects. ``result`` is final once ``is_done``."""

    def __init__(self, url: str, rules: _Rules) -> None:
        self.result: bytes | ProductConsumerError = ImageUnavailable("fetcher_closed")
        self.is_done = False
        self._rules = rules
        self._redirects = 0
        self._deadline = time.monotonic() + rules.timeout_seconds
        self._sockets: list[socket.socket] = []
        self._target: Any = None
        self._begin_request()
        self._go_to(url)

    def prepare(self, curl: Any) -> None:
        """Set every option of the next request on a fresh or reset handle."""
        remaining_ms = max(1, int((self._deadline - time.monotonic()) * 1000))
        self._begin_request()
        _set_fixed_options(curl, self._rules)
        curl.setopt(pycurl.CURLU, self._target)
        curl.setopt(pycurl.TIMEOUT_MS, remaining_ms)
        curl.setopt(
            pycurl.CONNECTTIMEOUT_MS, min(remaining_ms, int(_CONNECT_TIMEOUT_SECONDS * 1000))
        )
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        curl.setopt(pycurl.WRITEFUNCTION, self._on_body)

    def conclude(self, code: int, message: str) -> None:
        """Take the end of one request: a result, or the next hop."""
        self.release_sockets()
        answer = self._answer
        if answer.refusal is not None:
            self.finish(answer.refusal)
        elif answer.location:
            self._follow(answer.location)
        elif answer.status not in (0, 200):
            grace = self._rules.missing_grace_seconds
            self.finish(refusal(answer.status, answer.headers, grace))
        elif code != pycurl.E_OK:
            self.finish(self._failure(code, message))
        else:
            self.finish(bytes(answer.body) if answer.body else empty_image())

    def finish(self, result: bytes | ProductConsumerError) -> None:
        """Nothing more will be requested."""
        self.result = result
        self.is_done = True
        self._begin_request()

    def release_sockets(self) -> None:
        """Close our copies; libcurl works on its own duplicates."""
        for opened in self._sockets:
            opened.close()
        self._sockets.clear()

    def _begin_request(self) -> None:
        self._answer = Answer(self._rules.max_bytes)
        self._address_refused = False
        self._address_tried = False

    def _go_to(self, url: str) -> None:
        try:
            self._target = _parse_url(url, self._rules)
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
        return None if self._answer.take_header_line(line) else _STOP_READING

    def _on_body(self, chunk: bytes) -> int | None:
        return None if self._answer.take_body(chunk) else _STOP_READING


def _set_fixed_options(curl: Any, rules: _Rules) -> None:
    options = {
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.FOLLOWLOCATION: 0,
        # An empty proxy turns off the proxy variables: behind a proxy no address can be judged.
        pycurl.PROXY: "",
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        pycurl.NOSIGNAL: 1,
        pycurl.HTTP09_ALLOWED: 0,
        # One download per connection at a time: no hostile stream stalls others as on HTTP/2.
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.MAXFILESIZE_LARGE: rules.max_bytes,
        pycurl.BUFFERSIZE: 64 * 1024,
        pycurl.USERAGENT: rules.user_agent,
        pycurl.HTTPHEADER: _REQUEST_HEADERS,
        pycurl.CAINFO: rules.ca_file,
        pycurl.RESOLVE: list(rules.resolve),
    }
    for option, value in options.items():
        curl.setopt(option, value)


def _parse_url(url: str, rules: _Rules) -> Any:
    """A ``pycurl.CurlUrl`` that may be connected to; raises ``ImageRejected``."""
    check_spelling(url)
    try:
        target = pycurl.CurlUrl(url.encode(), pycurl.U_URLENCODE)
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
