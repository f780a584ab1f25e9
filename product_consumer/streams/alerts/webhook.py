"""One request to a webhook, within the rules that images have for addresses.

Every connection is judged when its socket is opened, by the address that it really goes to. A
redirect is judged as the first URL is. So neither leads to a private address that is not allowed.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from time import monotonic
from typing import Any, Final

import certifi
import pycurl

from product_consumer.errors import ImageRejected, ProductConsumerError
from product_consumer.images.address_rules import Network, is_allowed
from product_consumer.images.download import Rules, parse_url, set_fixed_options
from product_consumer.images.fetcher import USER_AGENT
from product_consumer.images.url_rules import redirect_target

log = logging.getLogger(__name__)

MAX_REDIRECTS: Final = 3
MAX_REPLY_BYTES: Final = 64 * 1024
_CONNECT_TIMEOUT_SECONDS = 5.0
_USUAL_PORTS = (80, 443)
_REDIRECTS = frozenset({301, 302, 307, 308})
# Too early, too often, or a conflict with another request: it may pass.
_PASSING = frozenset({408, 409, 423, 425, 429})
_STOP_READING = -1


class AlertFailed(ProductConsumerError):
    """Raised when a request was not taken.

    ``reason``: a short name, such as ``http_500`` or ``timeout``. ``is_passing``: whether the same
    request may be taken later.
    """

    def __init__(self, reason: str, *, is_passing: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_passing = is_passing


class Webhook:
    """An address that takes JSON by POST. For one thread at a time.

    ``allowed_networks``: networks that may be reached although they are not public.
    ``timeout_seconds``: of one request from start to end, redirects included.
    ``is_over``: asked about once a second during a request; True ends it.
    ``resolve``: answers instead of those of DNS, for tests, as ``ImageFetcher`` takes them.
    """

    def __init__(
        self,
        url: str,
        *,
        allowed_networks: Sequence[Network],
        timeout_seconds: float,
        is_over: Callable[[], bool] = lambda: False,
        resolve: Sequence[str] = (),
        ca_file: str | None = None,
    ) -> None:
        """Raises ``ImageRejected`` for a URL that would be refused without asking any server."""
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._is_over = is_over
        self._rules = Rules(
            allowed_networks=tuple(allowed_networks),
            allowed_ports=frozenset((*_USUAL_PORTS, _port_of(url))),
            timeout_seconds=timeout_seconds,
            max_bytes=MAX_REPLY_BYTES,
            missing_grace_seconds=0,
            user_agent=USER_AGENT,
            ca_file=ca_file or certifi.where(),
            resolve=tuple(resolve),
        )
        self.host: str = parse_url(url, self._rules).host
        """Where it is; the whole URL may hold a secret and is never shown."""
        self._curl: Any = pycurl.Curl()

    def post(self, body: str) -> None:
        """Send JSON; raises ``AlertFailed`` unless it was taken with a status of 2xx."""
        deadline = monotonic() + self._timeout_seconds
        target = parse_url(self._url, self._rules)
        for _ in range(MAX_REDIRECTS + 1):
            status, location = self._request(target, body.encode("utf-8", "replace"), deadline)
            if 200 <= status < 300 or status == 303:
                return
            if status not in _REDIRECTS or not location:
                is_passing = status in _PASSING or status >= 500
                raise AlertFailed(f"http_{status}", is_passing=is_passing)
            target = self._redirected(target, location)
        raise AlertFailed("too_many_redirects", is_passing=False)

    def close(self) -> None:
        """Close the connection."""
        self._curl.close()

    def _redirected(self, target: Any, location: str) -> Any:
        try:
            following = parse_url(redirect_target(target.url, location), self._rules)
        except ImageRejected as error:
            reason = error.reason.removeprefix("image_")
            raise AlertFailed(f"redirect_{reason}", is_passing=False) from error
        if target.scheme == "https" and following.scheme != "https":
            raise AlertFailed("redirect_downgrade", is_passing=False)
        return following

    def _request(self, target: Any, body: bytes, deadline: float) -> tuple[int, str]:
        """Send one request; return its status and where it redirects to."""
        curl, attempt = self._curl, _Attempt(self._rules, self._is_over)
        remaining_ms = max(1, int((deadline - monotonic()) * 1000))
        curl.reset()
        set_fixed_options(curl, self._rules)
        curl.setopt(pycurl.CURLU, target)
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.POSTFIELDS, body)
        # Without an empty Expect, libcurl waits a second before it sends a long body.
        curl.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json", "Expect:"])
        curl.setopt(pycurl.TIMEOUT_MS, remaining_ms)
        connect_ms = min(remaining_ms, int(_CONNECT_TIMEOUT_SECONDS * 1000))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, connect_ms)
        attempt.attach(curl)
        try:
            curl.perform()
        except pycurl.error as error:
            if not attempt.has_status(curl):
                raise attempt.failure(error.args[0]) from error
        finally:
            attempt.close()
        return int(curl.getinfo(pycurl.RESPONSE_CODE)), attempt.location


class _Attempt:
    """What libcurl asks and tells during one request. An exception here would only be printed."""

    def __init__(self, rules: Rules, is_over: Callable[[], bool]) -> None:
        self.location = ""
        self._rules = rules
        self._is_over = is_over
        self._refused = False
        self._bytes = 0
        self._sockets: list[socket.socket] = []

    def attach(self, curl: Any) -> None:
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        curl.setopt(pycurl.WRITEFUNCTION, self._on_body)
        curl.setopt(pycurl.NOPROGRESS, 0)
        curl.setopt(pycurl.XFERINFOFUNCTION, self._on_progress)

    def has_status(self, curl: Any) -> bool:
        """Whether the answer is known although the request broke: a body too long, or cut."""
        return int(curl.getinfo(pycurl.RESPONSE_CODE)) >= 200

    def failure(self, code: int) -> AlertFailed:
        if self._refused:
            return AlertFailed("blocked_address", is_passing=False)
        if code == pycurl.E_ABORTED_BY_CALLBACK:
            return AlertFailed("stopped", is_passing=False)
        is_timeout = code == pycurl.E_OPERATION_TIMEDOUT
        return AlertFailed("timeout" if is_timeout else "connection", is_passing=True)

    def close(self) -> None:
        for opened in self._sockets:
            opened.close()

    def _open_socket(self, purpose: int, peer: Any) -> Any:
        del purpose
        if not is_allowed(ip_address(peer.addr[0]), self._rules.allowed_networks):
            self._refused = True
            return pycurl.SOCKET_BAD
        self._refused = False
        try:
            opened = socket.socket(peer.family, peer.socktype, peer.protocol)
        except OSError as error:
            log.warning("no socket for an alert: %s", error)
            return pycurl.SOCKET_BAD
        self._sockets.append(opened)
        return opened

    def _on_header(self, line: bytes) -> int | None:
        self._bytes += len(line)
        if line.startswith(b"HTTP/"):
            self.location = ""
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"location":
            self.location = value.strip().decode("utf-8", "replace")
        return None if self._bytes <= MAX_REPLY_BYTES else _STOP_READING

    def _on_body(self, chunk: bytes) -> int | None:
        self._bytes += len(chunk)
        return None if self._bytes <= MAX_REPLY_BYTES else _STOP_READING

    def _on_progress(self, *_: int) -> int:
        return int(self._is_over())


def _port_of(url: str) -> int:
    try:
        target = pycurl.CurlUrl(url.encode("utf-8", "replace"), pycurl.U_URLENCODE)
        return int(target.getpart(pycurl.UPART_PORT, pycurl.U_DEFAULT_PORT))
    except pycurl.error as error:
        raise ImageRejected("image_url_invalid", str(error.args[-1])) from error
