"""A RabbitMQ to talk to, and a node of one's own to stop, crash and pause."""

import base64
import contextlib
import json
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from tests.support import backends

API_SECONDS = 10.0
COMMAND_SECONDS = 60.0
STOP_SECONDS = 60.0
ALARM_LEVEL = "0.00000001"
NO_ALARM_LEVEL = "0.4"
# Counts of quorum queues are this old at most; 5 s where nobody says otherwise.
QUICK_COUNTS = {"quorum_tick_interval": 250, "collect_statistics_interval": 250}


@dataclass(frozen=True, slots=True)
class Counts:
    """The messages of a queue: those that wait, and those that a consumer holds."""

    ready: int
    unacknowledged: int


class RabbitServer:
    """Addresses and a login on a running server."""

    def __init__(self, url: str, management_url: str | None = None) -> None:
        """``url``: ``amqp://user:password@host:port/vhost``, without a queue."""
        parts = urlsplit(url)
        self.host = str(parts.hostname)
        self.port = parts.port or 5672
        self.login = (parts.username or "guest", parts.password or "guest")
        self.vhost_path = parts.path
        self.management_url = management_url

    def url(
        self, queue: str | None = None, *, port: int | None = None, login: str | None = None
    ) -> str:
        """The URL of a queue or of the server; ``port`` of a proxy, ``login`` as ``user:password``,
        percent-encoded.
        """
        login = login or ":".join(quote(part, safe="") for part in self.login)
        query = "" if queue is None else f"?queue={quote(queue, safe='')}"
        return f"amqp://{login}@{self.host}:{port or self.port}{self.vhost_path}{query}"

    def counts(self) -> dict[str, Counts]:
        """Every queue's counts, from the management API: exact for classic queues."""
        # The numbers that the API gives without these parameters are 5 s old.
        found = self.api("queues?disable_stats=true&enable_queue_totals=true")
        return {
            queue["name"]: Counts(
                queue.get("messages_ready", 0), queue.get("messages_unacknowledged", 0)
            )
            for queue in found
        }

    @contextlib.contextmanager
    def user(self, configure: str = "", write: str = "", read: str = "") -> Iterator[str]:
        """A user of one's own with these rights, as ``user:password``; the rights are patterns of
        names, and nothing matches an empty one.
        """
        name = f"user-{uuid.uuid4().hex[:12]}"
        vhost = self.vhost_path.removeprefix("/") or "%2F"
        rights = {"configure": configure, "write": write, "read": read}
        patterns = {right: pattern or "^$" for right, pattern in rights.items()}
        self.api(f"users/{name}", "PUT", {"password": "secret", "tags": ""})
        self.api(f"permissions/{vhost}/{name}", "PUT", patterns)
        try:
            yield f"{name}:secret"
        finally:
            self.api(f"users/{name}", "DELETE")

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Ask the management API for ``/api/<path>``."""
        login = base64.b64encode(":".join(self.login).encode()).decode()
        request = urllib.request.Request(
            f"{self.management_url}/api/{path}",
            method=method,
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=API_SECONDS) as reply:
            text = reply.read()
        return json.loads(text) if text else None


class RabbitNode(RabbitServer):
    """A node with its own data, which outlive its stops and crashes until it is closed.

    ``settings``: numbers of the server's, such as ``consumer_timeout=8000``.
    """

    def __init__(self, **settings: int) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        pairs = [f"{{{name},{value}}}" for name, value in (QUICK_COUNTS | settings).items()]
        self._advanced = f"[{{rabbit,[{','.join(pairs)}]}}]."
        super().__init__(
            f"amqp://guest:guest@127.0.0.1:{backends.free_port()}",
            f"http://127.0.0.1:{backends.free_port()}",
        )
        self._backend: backends.Backend | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        if self._backend is None:
            raise RuntimeError("the node does not run")
        return self._backend.process

    @property
    def is_running(self) -> bool:
        return self._backend is not None and self._backend.process.poll() is None

    def start(self) -> None:
        """Start the node with the data that it has, on the ports that it had."""
        self._backend = backends.start_rabbitmq(
            self.data_dir,
            self.port,
            management_port=urlsplit(str(self.management_url)).port,
            advanced=self._advanced,
        )

    def stop(self) -> int:
        """Close the node cleanly; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS)
        self._end()
        return code

    def kill(self) -> None:
        """End the node at once, as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._end()

    def pause(self) -> None:
        """Freeze the node: it keeps its connections and does not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo ``pause``."""
        self.process.send_signal(signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``; return what it printed."""
        done = subprocess.run(
            [str(self.data_dir / "rabbitmqctl"), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def set(self, **settings: int) -> None:
        """Change numbers of the server's for channels that are opened from now on."""
        calls = [f"application:set_env(rabbit,{name},{value})" for name, value in settings.items()]
        self.ctl("eval", ",".join(calls) + ".")

    @property
    def version(self) -> str:
        [version, *_] = re.findall(r"RabbitMQ (\d[\w.]*)", self.log)
        return str(version)

    @property
    def log(self) -> str:
        return (self.data_dir / "log" / "rabbit.log").read_text(errors="replace")

    @contextlib.contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Block every connection that publishes."""
        self.ctl("set_vm_memory_high_watermark", ALARM_LEVEL)
        try:
            yield
        finally:
            self.ctl("set_vm_memory_high_watermark", NO_ALARM_LEVEL)

    def heal(self) -> None:
        """Make a node that was stopped, crashed or paused take connections again."""
        if not self.is_running:
            self._end()
            self.start()
            return
        self.resume()
        if not backends.accepts_connections(self.url()):
            self.ctl("start_app")

    def close(self) -> None:
        """End the node and remove its data."""
        self._end()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def _end(self) -> None:
        if self._backend is not None:
            self._backend.kill()
            self._backend.stop()
            self._backend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
