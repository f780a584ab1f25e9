"""Runs the order service with uvicorn in a thread; the only file that imports it."""

import logging
import socket
import threading
from typing import Any

import uvicorn

from product_consumer.errors import FatalError
from product_consumer.network.addresses import shown
from product_consumer.network.listening import listen

log = logging.getLogger(__name__)

STOP_SECONDS = 5
"""How long a stop waits for responses that are being written."""
START_SECONDS = 10.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

# The longest request line that is read at all. HttpGuard refuses an overlong query within it with a
# reason; beyond it the connection is closed.
_MAX_HEAD_BYTES = 1_572_864
_MAX_CONNECTIONS = 512


class ApiServer:
    """An HTTP server for an ASGI application, in a thread of its own.

    Signals are the caller's: uvicorn handles none outside the main thread.
    """

    def __init__(self, app: Any, *, host: str, port: int, has_key: bool) -> None:
        self._host, self._port, self._has_key = host, port, has_key
        self._listening: socket.socket | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http="h11",
                ws="none",
                lifespan="off",
                # Our own logging is set up already, and a query string may hold an id.
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=STOP_SECONDS,
                limit_concurrency=_MAX_CONNECTIONS,
                h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            )
        )
        self._thread = threading.Thread(target=self._run, name="order-service", daemon=True)
        self._ended = threading.Event()
        self._problem = "it ended before it was ready"

    def start(self) -> None:
        """Listen; returns once connections are accepted.

        Raises ``ConfigurationError`` when the address cannot be listened on, and ``FatalError``.
        """
        if self._host not in _LOOPBACK and not self._has_key:
            log.warning("The order service listens on %s and asks for no API_KEY", self._host)
        self._listening = listen(self._host, self._port, "API")
        self._thread.start()
        ready = self._server.ready.wait(START_SECONDS)
        if not ready or not self._server.started:
            self._server.should_exit = True
            raise FatalError(f"the order service did not start: {self._problem}")
        log.info("The order service listens on http://%s", shown(self._host, self.port))

    @property
    def port(self) -> int:
        """The port in use; the system chooses it where port 0 was asked for."""
        listening = self._listening
        is_open = listening is not None and listening.fileno() != -1
        return int(listening.getsockname()[1]) if listening and is_open else self._port

    @property
    def has_ended(self) -> bool:
        """True after ``stop``, or when the server died by itself."""
        return self._ended.is_set()

    def stop(self) -> None:
        """Stop listening and let responses finish; returns within twice ``STOP_SECONDS``."""
        self._server.should_exit = True
        self._thread.join(2 * STOP_SECONDS)

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listening] if self._listening else None)
        except Exception as error:
            log.exception("The order service died")
            self._problem = str(error)
        finally:
            self._ended.set()
            self._server.ready.set()


class _Server(uvicorn.Server):
    """A server that sets ``ready`` once it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()
