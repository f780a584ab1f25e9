"""A program of ``tests/support/programs`` that runs, and what it says."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.paths import REPOSITORY

PROGRAMS = REPOSITORY / "tests" / "support" / "programs"
SAYS_SECONDS = 30.0


class RunningProgram:
    """A program with its arguments; its output goes to files in ``directory``."""

    def __init__(self, directory: Path, program: str, *arguments: str, **variables: str) -> None:
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.popen = subprocess.Popen(
                [sys.executable, str(PROGRAMS / program), *arguments],
                env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", **variables},
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_for(self, *texts: str) -> None:
        """Wait until it, or a child of it, has said all of them."""
        deadline = time.monotonic() + SAYS_SECONDS
        while time.monotonic() < deadline and not self._has_said(texts):
            time.sleep(0.02)
        assert self._has_said(texts), self.out + self.err

    def _has_said(self, texts: tuple[str, ...]) -> bool:
        said = self.out + self.err
        return all(text in said for text in texts)

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def exit_code(self, seconds: float = 30.0) -> int:
        return self.popen.wait(seconds)

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
