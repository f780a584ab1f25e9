"""A demo, run as its users run it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import REPOSITORY


@dataclass(frozen=True, slots=True)
class DemoRun:
    """The output of a demo, and the directory of its files."""

    directory: Path
    result: "subprocess.CompletedProcess[str]"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"


def run_demo(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a demo whose ``DATA_DIR`` is ``directory/data``, and wait for its end."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "thread_runner.py"), "--demo", *arguments],
        env={"PATH": "/usr/bin:/bin", "DATA_DIR": str(directory / "data"), "HF_HUB_OFFLINE": "1"},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )
