"""A loopback web server on raw sockets that misbehaves exactly as a test asks."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Connection = socket.socket
Behaviour = Callable[[Connection, threading.Event], bool]
"""Answers one request; True keeps the connection open for the next request."""


class HostileServer:
    """An HTTP server that serves ``routes`` (path -> behaviour) on a free port until closed.

    ``connections`` counts accepted connections; ``requests`` holds each request's bytes.
    """

    def __init__(
        self,
        routes: dict[str, Behaviour] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.routes = routes or {}
        self.host = host
        self.connections = 0
        self.requests: list[bytes] = []
        self._tls = tls
        self._stopped = threading.Event()
        self._listener = socket.create_server((host, port))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, path: str = "/", host: str | None = None) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{host or self.host}:{self.port}{path}"

    def close(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        connection.settimeout(0.1)
        try:
            if self._tls:
                connection.settimeout(5)
                connection = self._tls.wrap_socket(connection, server_side=True)
            while self._answer(connection):
                pass
        except OSError:
            pass
        finally:
            connection.close()

    def _answer(self, connection: Connection) -> bool:
        request = self._read_request(connection)
        if not request:
            return False
        self.requests.append(request)
        path = request.split(b" ")[1].decode()
        connection.settimeout(5)
        keep = self.routes.get(path, reply(404))(connection, self._stopped)
        connection.settimeout(0.1)
        return keep

    def _read_request(self, connection: Connection) -> bytes:
        request = b""
        while b"\r\n\r\n" not in request and not self._stopped.is_set():
            try:
                chunk = connection.recv(65_536)
            except TimeoutError:
                continue
            if not chunk:
                return b""
            request += chunk
        return request


def reply(status: int = 200, body: bytes = b"", **headers: str) -> Behaviour:
    """Send a correct response; ``content_type="x"`` is the header ``content-type: x``."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return send("\r\n".join(lines).encode() + b"\r\n\r\n" + body, keep=True)


def redirect(location: str, status: int = 302) -> Behaviour:
    return reply(status, location=location)


def send(data: bytes, *, keep: bool = False) -> Behaviour:
    """Send exactly these bytes, then close the connection unless ``keep``."""

    def behave(connection: Connection, stopped: threading.Event) -> bool:
        connection.sendall(data)
        return keep

    return behave


def repeat(start: bytes, piece: bytes, interval_seconds: float = 0.0) -> Behaviour:
    """Send ``start``, then ``piece`` for ever."""

    def behave(connection: Connection, stopped: threading.Event) -> bool:
        connection.sendall(start)
        while not stopped.wait(interval_seconds):
            connection.sendall(piece)
        return False

    return behave


def silence() -> Behaviour:
    def behave(connection: Connection, stopped: threading.Event) -> bool:
        stopped.wait(30)
        return False

    return behave


def reset(start: bytes = b"") -> Behaviour:
    """Send ``start``, then break the connection with RST."""

    def behave(connection: Connection, stopped: threading.Event) -> bool:
        connection.sendall(start)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return behave
