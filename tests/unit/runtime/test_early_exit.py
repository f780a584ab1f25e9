"""A start that goes wrong: closed and full streams, errors at an import, signals."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

GUARDED = "from product_consumer.runtime.early_exit import guard_start, stop_signals, tell\n"


def run(code: str, redirection: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code in a shell, with its streams as the redirection says."""
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, GUARDED + code],
        env={"PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "redirection", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", "2> >(true)"]
)
def test_a_line_for_a_stream_that_takes_none_does_no_harm(redirection: str) -> None:
    done = run("guard_start()\ntell('x' * 100_000)\nraise SystemExit(78)", redirection)

    assert done.returncode == 78


def test_a_closed_stream_is_no_number_for_a_file() -> None:
    code = "guard_start()\nimport socket\nprint(socket.socket().fileno() > 2)"

    assert run(code, "<&- 2>&-").stdout == "True\n"


def test_a_bug_ends_with_70_and_its_traceback() -> None:
    done = run("guard_start()\n1 / 0")

    assert done.returncode == 70
    assert done.stderr.startswith("Fatal: an unexpected error\n")
    assert "ZeroDivisionError" in done.stderr


def test_a_missing_package_ends_with_78_in_one_line() -> None:
    done = run("guard_start()\nimport no_such_package")

    assert done.returncode == 78
    assert done.stderr == "Cannot start: the installation: No module named 'no_such_package'\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_that_the_stream_lacks_is_escaped(encoding: str) -> None:
    done = run("guard_start()\nprint('s\\u1ed1')", PYTHONIOENCODING=encoding)

    assert (done.returncode, done.stdout) == (0, "s\\u1ed1\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_stops_ends_a_start_with_0(number: signal.Signals) -> None:
    code = f"guard_start()\nimport os\nos.kill(os.getpid(), {int(number)})\nraise SystemExit(9)"

    assert run(code).returncode == 0


def test_a_hangup_that_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    code = "guard_start()\nimport os\nos.kill(os.getpid(), 1)\nprint(len(stop_signals()))"
    done = subprocess.run(
        ["bash", "-c", 'trap \'\' HUP; exec "$0" -c "$1"', sys.executable, GUARDED + code],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.stdout == "2\n"
