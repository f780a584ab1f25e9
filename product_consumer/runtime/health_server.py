"""``/metrics``, ``/healthz`` and ``/readyz`` over HTTP, for Prometheus and supervisors."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from product_consumer.network.addresses import shown
from product_consumer.network.listening import listen
from product_consumer.pipeline.context import ProcessContext
from product_consumer.runtime.signals import Shutdown
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 5.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Page:
    """A response to a GET."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Health:
    """The pages of a worker, made from its current state. Any thread may ask for them."""

    def __init__(self, context: ProcessContext, shutdown: Shutdown) -> None:
        self._metrics = context.metrics
        self._stages = context.stages
        self._shutdown = shutdown

    def page(self, path: str, accept: str) -> Page:
        """Return the page at ``path``, whatever its query; 404 for an unknown path."""
        pages: dict[str, Callable[[], Page]] = {
            "/metrics": partial(self.metrics, accept),
            "/healthz": self.healthz,
            "/readyz": self.readyz,
        }
        make = pages.get(path.partition("?")[0])
        return make() if make else _json_page(HTTPStatus.NOT_FOUND, {"status": "not found"})

    def metrics(self, accept: str) -> Page:
        """Return all metrics, in the format that ``accept`` asks for."""
        body, content_type = self._metrics.exposition(accept)
        return Page(HTTPStatus.OK, content_type, body)

    def healthz(self) -> Page:
        """Return 200 while every thread makes progress, or waits for a dependency that is down.

        503 asks for a restart.
        """
        # A stop has a bound of its own, and ends threads.
        overdue = [] if self._shutdown.stopping.is_set() else self._stages.overdue()
        if overdue:
            return _json_page(
                HTTPStatus.SERVICE_UNAVAILABLE, {"status": "hanging", "threads": overdue}
            )
        return _json_page(HTTPStatus.OK, {"status": "ok"})

    def readyz(self) -> Page:
        """Return 200 while messages are consumed, else 503; both name the dependencies down."""
        down = self._metrics.down_dependencies()
        status = "consuming"
        if self._shutdown.stopping.is_set():
            status = "stopping"
        elif not self._shutdown.consuming:
            status = "starting"
        elif down:
            status = "waiting"
        is_ready = status == "consuming"
        code = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _json_page(code, {"status": status, "down": down})


@contextmanager
def serving(
    settings: Settings, context: ProcessContext, shutdown: Shutdown
) -> Iterator[int | None]:
    """Serve the pages during the block, in threads of their own; nothing without ``METRICS_PORT``.

    Yields the port. Raises ``ConfigurationError`` when the address cannot be used.
    """
    if settings.metrics_port is None:
        yield None
        return
    server = _Server(
        listen(settings.metrics_host, settings.metrics_port, "METRICS"),
        partial(_Handler, Health(context, shutdown)),
    )
    thread = threading.Thread(
        target=server.serve_forever, args=(_POLL_SECONDS,), name="health", daemon=True
    )
    thread.start()
    host, port = server.server_address[:2]
    log.info("Metrics and health on http://%s", shown(str(host), port))
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A slow reader must not hold up a stop.
    block_on_close = False

    def __init__(self, listening: socket.socket, handler: Callable[..., Any]) -> None:
        """``listening``: a socket that listens already, on IPv4 or IPv6."""
        address = listening.getsockname()
        super().__init__(address, handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_address = address

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("A request to the health server failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server_version = "product-consumer"
    sys_version = ""

    def __init__(self, health: Health, *arguments: Any) -> None:
        self._health = health
        super().__init__(*arguments)

    def do_GET(self) -> None:
        page = self._health.page(self.path, self.headers.get("Accept", ""))
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every few seconds is no news."""


def _json_page(status: HTTPStatus, content: dict[str, Any]) -> Page:
    return Page(status, "application/json", json.dumps(content).encode() + b"\n")
