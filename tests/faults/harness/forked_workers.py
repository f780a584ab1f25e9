"""Workers that start in a fraction of a second, for tests that need many of them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.acceptance.world import Worker
from tests.faults.harness.world import FaultWorld, Servers
from tests.support.paths import REPOSITORY

PROGRAM = Path(__file__).with_name("fork_server.py")


class ForkServer:
    """A process that has loaded a worker's modules, and forks workers. Thread-safe."""

    def __init__(self, *arguments: str) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read_reply()

    def close(self) -> None:
        """End the server and the workers that still run."""
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(
        self,
        world: FaultWorld,
        fault: str = "",
        threads: int = 4,
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> Worker:
        """Start a worker in the world, as ``FaultWorld.start`` does."""
        environment = world.environment | {"HARNESS_FAULT": fault} | dict(settings or {})
        worker = self.fork(environment, world.directory, ["--threads", str(threads), *arguments])
        world.adopt(worker)
        return worker

    def fork(
        self, environment: Mapping[str, str], directory: Path, arguments: Sequence[str]
    ) -> Worker:
        """Start a worker with these settings alone; its log is in ``directory``."""
        log = directory / f"worker-{uuid.uuid4().hex[:8]}.log"
        log.touch()
        command = {
            "environment": dict(environment),
            "arguments": list(arguments),
            "directory": str(directory),
            "log": str(log),
        }
        return ForkedWorker(self, self.ask({"start": command}), log)

    def ask(self, command: Mapping[str, Any]) -> Any:
        """Send one command and return its reply."""
        with self._lock:
            if self._process.stdin is None:
                raise RuntimeError("the fork server has no standard input")
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            return self._read_reply()

    def _read_reply(self) -> Any:
        if self._process.stdout is None:
            raise RuntimeError("the fork server has no standard output")
        return json.loads(self._process.stdout.readline())


class ForkedWorld(FaultWorld):
    """A world whose workers come from a fork server."""

    arguments: Sequence[str] = ()

    def __init__(self, directory: Path, servers: Servers, fork_server: ForkServer) -> None:
        super().__init__(directory, servers)
        self._fork_server = fork_server

    def start(
        self,
        bug: str = "",
        fault: str = "",
        threads: int = 4,
        settings: Mapping[str, str] | None = None,
    ) -> Worker:
        with_bug = {"HARNESS_BUG": bug, **(settings or {})}
        return self._fork_server.start(self, fault, threads, with_bug, self.arguments)


class ForkedWorker(Worker):
    """A forked worker, used as any other."""

    def __init__(self, fork_server: ForkServer, pid: int, log_path: Path) -> None:
        self.log_path = log_path
        self.process = ForkedProcess(fork_server, pid)  # type: ignore[assignment]


class ForkedProcess:
    """A forked process with the methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, fork_server: ForkServer, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._fork_server = fork_server

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._fork_server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
