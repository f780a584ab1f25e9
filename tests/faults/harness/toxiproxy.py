"""A small client of toxiproxy's HTTP API: one proxy per dependency, broken on demand."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

DOWNSTREAM, UPSTREAM = "downstream", "upstream"


class Proxy:
    """A loopback port in front of ``upstream`` (``host:port``), removed by ``close``."""

    def __init__(self, api_url: str, name: str, upstream: str) -> None:
        self._api = urlsplit(api_url).netloc
        self._name = name
        created = self._ask(
            "POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": upstream}
        )
        self.address: str = created["listen"]
        """``host:port`` to connect to."""

    def in_front_of(self, url: str) -> str:
        """Return ``url`` with this proxy in place of its host and port."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}{self.address}").geturl()

    @contextmanager
    def down(self) -> Iterator[None]:
        """End the connections and refuse new ones."""
        self._ask("POST", f"/proxies/{self._name}", {"enabled": False})
        try:
            yield
        finally:
            self._ask("POST", f"/proxies/{self._name}", {"enabled": True})

    @contextmanager
    def toxic(self, kind: str, stream: str = DOWNSTREAM, **attributes: int) -> Iterator[None]:
        """Put one toxic in, and take all out at the end.

        ``kind``: ``latency``, ``timeout``, ``reset_peer``, ``slow_close``, ``limit_data``,
        ``bandwidth`` or ``slicer``. ``attributes`` are in milliseconds, KB/s and bytes.
        """
        self.add(kind, stream, **attributes)
        try:
            yield
        finally:
            self.heal()

    def add(self, kind: str, stream: str = DOWNSTREAM, **attributes: int) -> None:
        """Put a toxic in until ``heal``."""
        toxic = {
            "name": f"{kind}-{stream}",
            "type": kind,
            "stream": stream,
            "attributes": attributes,
        }
        self._ask("POST", f"/proxies/{self._name}/toxics", toxic)

    def heal(self) -> None:
        """Take every toxic out."""
        for toxic in self._ask("GET", f"/proxies/{self._name}/toxics"):
            self._ask("DELETE", f"/proxies/{self._name}/toxics/{toxic['name']}")

    def close(self) -> None:
        self._ask("DELETE", f"/proxies/{self._name}")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(self._api, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise RuntimeError(f"toxiproxy: {method} {path}: {response.status} {text!r}")
        return json.loads(text) if text else None
