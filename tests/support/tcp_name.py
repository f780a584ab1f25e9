"""A name in front of servers, as a failover has it: new connections go where it leads now."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class TcpName:
    """Listens on a loopback port and forwards each connection; open ones stay where they are."""

    def __init__(self, server_url: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.lead_to(server_url)
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, server_url: str) -> None:
        """Forward new connections to this server."""
        address = urlsplit(server_url)
        self._target = (str(address.hostname), int(address.port or 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self._forward(caller)

    def _forward(self, caller: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            caller.close()
            return
        for pair in ((caller, server), (server, caller)):
            threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while received := source.recv(65536):
            target.sendall(received)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
