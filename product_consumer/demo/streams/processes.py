"""The stages as processes, as an operator starts them; each writes a log of its own."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from product_consumer.demo.streams.node import end, ended_with_us
from product_consumer.environment import child_environment
from product_consumer.errors import FatalError
from product_consumer.pipeline.backoff import Stopped

START_SECONDS = 90.0
STOP_SECONDS = 20.0
STARTED = "started consuming"
_POLL_SECONDS = 0.1
_NOT_FOR_THE_DEMO = ("DATABASE_URL", "METRICS_PORT", "THREADS", "BATCH_SIZE")


class StageProcesses:
    """The processes of some stages, ended at the end of the block."""

    def __init__(
        self,
        directory: Path,
        server: str,
        settings: Mapping[str, str],
        wait: Callable[[float], bool],
    ) -> None:
        """``settings``: by name. ``wait``: sleeps; True when asked to stop."""
        self._directory = directory
        self._server = server
        cleared = dict.fromkeys(_NOT_FOR_THE_DEMO, "")
        self._environment = child_environment({}, {**cleared, **settings})
        self._wait = wait
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "StageProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        # All at once: each drains in its own time.
        for process in self._running.values():
            process.terminate()
        with ExitStack() as ending:
            for process in self._running.values():
                ending.callback(end, process, STOP_SECONDS)

    def start(self, name: str, options: Sequence[str]) -> None:
        """Start a stage; returns at once."""
        command = [sys.executable, "-m", "product_consumer", "stage", name, *options]
        with self._log(name).open("wb") as output:
            self._running[name] = subprocess.Popen(  # noqa: S603 - this program
                ended_with_us([*command, "--rabbitmq_server", self._server]),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_they_consume(self) -> None:
        """Return once every stage reads its queue; raises ``FatalError`` and ``Stopped``."""
        deadline = monotonic() + START_SECONDS
        while not all(map(self._consumes, self._running)):
            self.check()
            if monotonic() > deadline:
                raise FatalError(f"the stages did not start: see {self._directory}")
            if self._wait(_POLL_SECONDS):
                raise Stopped

    def check(self) -> None:
        """Raise ``FatalError`` where a stage has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise FatalError(f"the stage {name} ended by itself: see {self._log(name)}")

    def _consumes(self, name: str) -> bool:
        return STARTED in self._log(name).read_text(encoding="utf-8", errors="replace")

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"
