"""The demo's RabbitMQ: found or told how to install, on ports of its own, ended in the end."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from product_consumer.demo.streams import node, run
from product_consumer.demo.streams.node import LocalRabbit, end, ended_with_us, free_ports
from product_consumer.errors import FatalError
from product_consumer.pipeline.backoff import Stopped
from product_consumer.runtime.exit_codes import EXIT_USAGE, UsageError

SLEEPER = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]


def no_program(*_: object, **__: object) -> None:
    return None


def test_without_rabbitmq_the_demo_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", no_program)
    monkeypatch.setattr(run, "configure_logging", no_program)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    assert run.main() == EXIT_USAGE
    told = capfd.readouterr()
    assert "apt-get install" in told.out + told.err


def test_ports_are_free_and_differ() -> None:
    assert len(set(free_ports(5))) == 5


def test_a_process_is_ended_by_force_if_it_does_not_end() -> None:
    stubborn = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); time.sleep(60)",
    ]
    with subprocess.Popen(stubborn, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end(process, 0.1)
        assert process.returncode == -9


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_process_of_the_demo_ends_with_it() -> None:
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({ended_with_us(SLEEPER)!r}, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    gone = threading.Event()
    for _ in range(200):
        if not Path(f"/proc/{child}/cmdline").exists() or not _command(child):
            gone.set()
            break
        gone.wait(0.05)
    assert gone.is_set()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("program", "is_stopping", "error"), [("false", False, FatalError), ("sleep", True, Stopped)]
)
def test_a_node_that_does_not_start_is_told_and_a_stop_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, is_stopping: bool, error: Any
) -> None:
    monkeypatch.setattr(node, "find_program", lambda: "/bin/true")
    command = ["/bin/false"] if program == "false" else SLEEPER
    monkeypatch.setattr(node, "ended_with_us", lambda _: command)
    rabbit = LocalRabbit(tmp_path, lambda _seconds: is_stopping)

    with pytest.raises(error), rabbit:
        pass


def test_a_machine_without_the_program_is_told() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.which", no_program)
        with pytest.raises(UsageError, match="rabbitmq-server"):
            node.find_program()
