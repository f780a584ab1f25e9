"""Local servers of the demo, which replace an AWS account and a shop: SQS and an image host."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

from moto.server import ThreadedMotoServer
from moto.sqs.models import SQSBackend

log = logging.getLogger(__name__)


class ImageServer:
    """An HTTP server of one folder, on a free loopback port."""

    def __init__(self, directory: Path) -> None:
        handler = partial(_QuietHandler, directory=str(directory))
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="image-server", daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve requests, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        self._server.shutdown()
        self._server.server_close()


class SqsServer:
    """An SQS server (moto) on a free loopback port, for a small backlog.

    The cost of a call grows with the number of waiting messages: keep fewer than 50 of them.
    """

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def start(self) -> str:
        """Start the server; return its endpoint URL."""
        self._server.start()
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def stop(self) -> None:
        """Close the port."""
        self._server.stop()


def _receive_one_at_a_time(receive: Callable[..., Any]) -> Callable[..., Any]:
    """Return moto's ``receive`` under a lock: without one, two calls may take the same message."""
    lock = threading.Lock()

    def receive_message(
        self: Any, name: str, count: int, wait_seconds: int, *rest: Any, **named: Any
    ) -> Any:
        deadline = monotonic() + wait_seconds
        while True:
            with lock:
                messages = receive(self, name, count, 0, *rest, **named)
            if messages or monotonic() >= deadline:
                return messages
            self.get_queue(name).wait_for_messages(0.2)

    return receive_message


setattr(  # noqa: B010 - moto is typed, and its methods are not meant to be replaced
    SQSBackend, "receive_message", _receive_one_at_a_time(SQSBackend.receive_message)
)


class _Server(ThreadingHTTPServer):
    # Ten threads ask for ten images each at once. With the default, five, the rest wait a second.
    request_queue_size = 128


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)

    def list_directory(self, path: Any) -> None:
        self.send_error(404)
