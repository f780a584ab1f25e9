"""Several real processes under one parent: stopped, killed, hanging, and left by it."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.runtime.child_process import end_in_words
from product_consumer.runtime.processes import worker_command, worker_environment
from product_consumer.settings import read_settings
from tests.support.running_program import RunningProgram


class Service(RunningProgram):
    """``two_children.py`` with a behaviour, in a directory that it and its children know."""

    def __init__(self, directory: Path, behaviour: str, *arguments: str, **variables: str) -> None:
        self.directory = directory
        super().__init__(
            directory, "two_children.py", behaviour, str(directory), *arguments, **variables
        )

    def pids(self) -> list[int]:
        """Of every life of every child."""
        return [int(pid) for pid in re.findall(r"life pid (\d+)", self.out)]

    def close(self) -> None:
        super().close()
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def begin(behaviour: str, *arguments: str, code: int = 70, **variables: str) -> Service:
        (tmp_path / "code").write_text(str(code))
        started.append(Service(tmp_path, behaviour, *arguments, **variables))
        return started[-1]

    yield begin
    for service in started:
        service.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket at which systemd would listen."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def hear_until(listening: socket.socket, text: str) -> list[str]:
    """Every line up to the first with ``text``."""
    heard: list[str] = []
    while not any(text in line for line in heard):
        heard += listening.recv(4096).decode().splitlines()
    return heard


def is_running(pid: int) -> bool:
    """A process that has ended and waits to be reaped is not running."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_every_process_once(start, number: signal.Signals) -> None:
    service = start("work")
    service.wait_for("1 ready", "2 ready")
    service.signal(number)

    assert service.exit_code() == 0
    service.wait_for("1 drained", "2 drained", "every process has ended")


def test_a_terminals_signal_reaches_the_processes_by_way_of_the_parent_only(start) -> None:
    service = start("work")
    service.wait_for("1 ready", "2 ready")

    groups = re.findall(r"pid (\d+) group (\d+)", service.out)
    assert len(groups) == 2
    assert all(pid == group for pid, group in groups)


def test_a_signal_during_the_start_stops_all(start) -> None:
    service = start("ready_when_told")
    service.wait_for("1 first life")
    (service.directory / "told").touch()
    service.signal(signal.SIGTERM)

    assert service.exit_code() == 0
    assert not any(is_running(pid) for pid in service.pids())


def test_a_second_signal_ends_all_at_once(start) -> None:
    service = start("slow_to_drain", "30")
    service.wait_for("1 ready", "2 ready")
    service.signal(signal.SIGTERM)
    service.wait_for("1 drains")
    service.signal(signal.SIGTERM)

    assert service.exit_code(seconds=3) == 1
    assert not any(is_running(pid) for pid in service.pids())


def test_a_process_that_does_not_drain_is_killed_in_time(start) -> None:
    service = start("deaf")
    service.wait_for("1 ready", "2 ready")
    service.signal(signal.SIGTERM)

    assert service.exit_code(seconds=15) == 70
    service.wait_for("2 drained", "Process 1 did not end in time")
    assert not any(is_running(pid) for pid in service.pids())


def test_a_process_that_was_killed_is_started_again(start) -> None:
    service = start("work")
    service.wait_for("1 ready", "2 ready")
    [first] = re.findall(r"1 first life pid (\d+)", service.out)
    os.kill(int(first), signal.SIGKILL)
    service.wait_for("Process 1 was ended by SIGKILL; starting it again", "1 another life")
    service.signal(signal.SIGTERM)

    assert service.exit_code() == 0
    assert "2 another life" not in service.out


@pytest.mark.parametrize("code", [0, 1, 70])
def test_a_process_that_ends_unasked_is_started_again(start, code: int) -> None:
    service = start("code_once", code=code)
    service.wait_for(f"Process 1 ended with code {code}; starting it again", "1 another life")
    service.signal(signal.SIGTERM)

    assert service.exit_code() == 0


def test_a_process_that_keeps_dying_ends_the_service(start) -> None:
    service = start("code_always")

    assert service.exit_code() == 70
    assert service.out.count("1 ready") == 6
    service.wait_for("2 drained", "fatal: process 1 keeps dying: ended with code 70")


@pytest.mark.parametrize("code", [2, 78])
def test_a_configuration_that_cannot_work_ends_the_service_with_its_code(start, code: int) -> None:
    service = start("code_once", code=code)

    assert service.exit_code() == code
    assert "another life" not in service.out
    assert not any(is_running(pid) for pid in service.pids())


def test_the_service_ends_when_every_process_did_including_one_that_died_before(start) -> None:
    service = start("empty")

    assert service.exit_code() == 0
    assert "1 another life" in service.out
    assert "2 another life" not in service.out


def test_the_service_is_ready_when_every_process_is(start, manager: socket.socket) -> None:
    service = start("ready_when_told", NOTIFY_SOCKET=str(manager.getsockname()))
    before = hear_until(manager, "STATUS=Consuming (1), Starting (1)")
    (service.directory / "told").touch()

    after = hear_until(manager, "STATUS=Consuming (2)")
    assert "READY=1" not in before
    assert after.count("READY=1") == 1


def test_the_watchdog_hears_of_processes_that_are_alive_and_of_a_stop(
    start, manager: socket.socket
) -> None:
    service = start("work", NOTIFY_SOCKET=str(manager.getsockname()), WATCHDOG_USEC="300000")
    hear_until(manager, "READY=1")
    hear_until(manager, "WATCHDOG=1")
    service.signal(signal.SIGTERM)

    hear_until(manager, "STOPPING=1")
    assert service.exit_code() == 0


def test_a_silent_process_is_ended_with_its_stacks_and_started_again(start) -> None:
    service = start("silent")
    service.wait_for("Process 1 shows no sign of life", "was ended by SIGABRT", "1 another life")
    service.signal(signal.SIGTERM)

    assert service.exit_code() == 0
    assert re.search(r'File ".*two_children.py", line \d+ in hang_when_ready', service.err)


def test_a_process_that_does_not_even_get_ready_is_started_again(start) -> None:
    service = start("never_ready")
    service.wait_for("was ended by SIGABRT", "1 another life", "1 ready")
    service.signal(signal.SIGTERM)

    assert service.exit_code() == 0


def test_the_watchdog_hears_nothing_while_a_process_can_not_be_ended(
    start, manager: socket.socket
) -> None:
    address = str(manager.getsockname())
    service = start("suspended", NOTIFY_SOCKET=address, WATCHDOG_USEC="300000")
    hear_until(manager, "Hanging (1)")
    heard = hear_until(manager, "Starting again (1)")

    assert "WATCHDOG=1" not in heard
    hear_until(manager, "WATCHDOG=1")
    service.wait_for("was ended by SIGKILL", "1 another life")


def test_no_process_is_blamed_for_time_in_which_nothing_ran(start) -> None:
    service = start("work")
    service.wait_for("1 ready", "2 ready")
    everybody = [service.popen.pid, *service.pids()]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    time.sleep(1)
    service.signal(signal.SIGTERM)

    assert service.exit_code() == 0
    assert "another life" not in service.out
    assert "no sign of life" not in service.err


def test_sigusr1_prints_the_stacks_of_every_process_and_ends_none(start) -> None:
    service = start("work")
    service.wait_for("1 ready", "2 ready")
    service.signal(signal.SIGUSR1)

    deadline = time.monotonic() + 20
    while service.err.count("in work") < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert service.err.count("in work") == 2
    service.signal(signal.SIGTERM)
    assert service.exit_code() == 0


def test_processes_whose_parent_was_killed_drain(start) -> None:
    service = start("left")
    service.wait_for("1 ready", "2 ready")
    service.signal(signal.SIGKILL)

    service.wait_for("1 drained", "2 drained")


def test_nothing_is_left_in_the_temporary_directory(start, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for signals in (1, 2):
        service = start("slow_to_drain" if signals == 2 else "work", TMPDIR=str(temporary))
        service.wait_for("1 ready", "2 ready")
        service.signal(signal.SIGTERM)
        if signals == 2:
            service.wait_for("1 drains")
            service.signal(signal.SIGTERM)
        assert service.exit_code() == signals - 1

        assert list(temporary.iterdir()) == []


def test_each_process_has_a_metrics_port_of_its_own() -> None:
    settings = read_settings(env_file=None, metrics_port=9108, processes=3)
    ports = [worker_environment(settings, number)["METRICS_PORT"] for number in (1, 2, 3)]

    assert ports == ["9108", "9109", "9110"]


def test_without_metrics_no_process_serves_them() -> None:
    settings = read_settings(env_file=None, processes=3)

    assert "METRICS_PORT" not in worker_environment(settings, 2)


def test_a_metrics_port_that_leaves_no_room_is_refused() -> None:
    settings = read_settings(env_file=None, metrics_port=65_535, processes=2)

    with pytest.raises(ConfigurationError, match="process 2 would need port 65536"):
        worker_environment(settings, 2)


def test_the_cores_are_shared_out_unless_somebody_did(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings(env_file=None, processes=64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    shared = worker_environment(settings, 1)["OMP_NUM_THREADS"]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")

    assert shared == "1"
    assert worker_environment(settings, 1)["OMP_NUM_THREADS"] == "5"


def test_a_process_is_the_same_program_and_knows_its_number() -> None:
    command = worker_command(["--processes=4", "--serve"], 3)

    assert command[0] == sys.executable
    assert Path(command[1]).is_absolute()
    assert command[2:] == ["--processes=4", "--serve", "--processes", "1", "--process-number", "3"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (70, "ended with code 70"),
        (-9, "was ended by SIGKILL"),
        (-62, "was ended by signal 62"),
    ],
)
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert end_in_words(code) == words
