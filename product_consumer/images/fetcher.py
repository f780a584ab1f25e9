"""Image URL -> bytes, within address, byte, time and redirect limits; many at once.

``download.py`` has the rules and the results of a single download.
"""

import logging
import threading
import weakref
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import certifi
import pycurl

from product_consumer.errors import ImageUnavailable
from product_consumer.images.address_rules import Network
from product_consumer.images.download import (
    Download,
    FetchResult,
    ImageRequest,
    Rules,
    parse_url,
)

log = logging.getLogger(__name__)

USER_AGENT: Final = "product-consumer/1.0"

_MAX_IDLE_CONNECTIONS = 16
_LONGEST_WAIT_SECONDS = 0.25


class ImageFetcher:
    """Downloads images in parallel, within limits.

    Any number of threads may use it; each has its own connections, kept alive between its calls.

    ``allowed_networks``: networks that may be reached although they are not public.
    ``allowed_ports``: the only ports that may be reached.
    ``timeout_seconds``: of one URL from start to end, redirects included.
    ``max_bytes``: of one body. A call holds at most ``len(urls) * max_bytes``.
    ``missing_grace_seconds``: how long a missing image is tried again; 0 rejects it at once.
    ``ca_file``: PEM file of trusted certificate authorities; None takes certifi's.
    ``resolve``: answers instead of those of DNS, ``host:port:address[,address]`` each; for tests.
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
        self._rules = Rules(
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
        parse_url(url, self._rules)

    def fetch_all(self, requests: Sequence[ImageRequest]) -> list[FetchResult]:
        """Return the result of each request, in order: an image, or its message's error.

        Errors are ``ImageRejected`` and ``ImageUnavailable``; they are returned, not raised. Only a
        conditional request can get ``NotModified``. A request that occurs twice is sent once.
        Returns within about ``timeout_seconds``, sooner when another thread calls ``close``.
        """
        downloads = {request: Download(request, self._rules) for request in requests}
        self._session().run(downloads.values())
        return [downloads[request].result for request in requests]

    def close(self) -> None:
        """End every download and connection; later requests get ``fetcher_closed``."""
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
    """The connections of one thread. Another thread may call ``dispose``."""

    def __init__(self, closed: threading.Event) -> None:
        self._closed = closed
        self._busy = threading.Lock()
        self._multi: Any = None
        self._spare: list[Any] = []
        self._active: dict[Any, Download] = {}

    def run(self, downloads: Iterable[Download]) -> None:
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
        """Close all connections, unless ``run`` is at work, which then closes them itself."""
        if self._busy.acquire(timeout=timeout_seconds):
            try:
                self._release_handles()
            finally:
                self._busy.release()

    def _advance(self, download: Download) -> None:
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
