"""A name that moves: a TCP port whose new connections go to a server that can be changed."""

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Forwarder:
    """Forwards connections to a server; connections that are open stay with theirs."""

    def __init__(self, server_url: str) -> None:
        self.lead_to(server_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ends: list[socket.socket] = []
        self._flowing = threading.Event()
        self._flowing.set()

    def lead_to(self, server_url: str) -> None:
        """Forward new connections to this server."""
        address = urlsplit(server_url)
        self._target = (str(address.hostname), int(address.port or 0))

    def freeze(self) -> None:
        """Forward nothing more on the connections that are open, and keep them open."""
        self._flowing.clear()
        self._flowing = threading.Event()
        self._flowing.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._target, timeout=5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                self._ends += [client, server]
                ends = (client, server, self._flowing)
                threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(client: socket.socket, server: socket.socket, flowing: threading.Event) -> None:
    """Move bytes both ways until one side closes."""
    other = {client: server, server: client}
    is_open = True
    with client, server, selectors.DefaultSelector() as selector:
        for end in (client, server):
            selector.register(end, selectors.EVENT_READ)
        with contextlib.suppress(OSError):
            while is_open:
                ready = selector.select()
                flowing.wait()
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(65_536)
                    other[key.fileobj].sendall(data)
                    is_open = is_open and bool(data)
