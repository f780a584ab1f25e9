"""Threads of a worker that die, end or hang: it goes on, or ends with 70 to be started again."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.harness.forked_workers import ForkServer
from tests.faults.harness.workload import product
from tests.faults.harness.world import FaultWorld

pytestmark = pytest.mark.timeout(170, func_only=True)

ENDS = ("exit:extend", "hang:extend", "exit:sweep", "hang:sweep", "hang:receive:2")
"""No guarantee holds without these threads; a thread that hangs cannot be ended from outside."""
GOES_ON = ("die:extend", "die:sweep", "die:receive:2", "exit:receive:2")
LIMIT_SECONDS = 2.0
SHORT_LIMIT = f"stage_limit:{LIMIT_SECONDS}"
CHECK_SECONDS = 5.0
EXIT_SECONDS = 60.0


def test_a_thread_that_ends_or_hangs_ends_the_process(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    workers = {
        fault: fork_server.start(world, f"{fault},{SHORT_LIMIT}", threads=2) for fault in ENDS
    }

    codes = {fault: world.wait_for_exit(worker, EXIT_SECONDS) for fault, worker in workers.items()}

    assert codes == dict.fromkeys(ENDS, 70), world.logs()
    assert "Current thread" in workers["hang:receive:2"].log


def test_a_thread_that_dies_of_an_error_is_started_again(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    workers = [fork_server.start(world, fault, threads=1) for fault in GOES_ON]
    world.wait_for_event("thread_death", count=3)
    world.wait_for_event("thread_exit")
    world.send_all([product(f"p{number}", 1, world.images_url) for number in range(40)])
    world.wait_until_drained()
    world.wait_until_checked()
    world.stop(*workers)

    assert world.verdict(checks_are_done=True) == []


@dataclass
class Datagrams:
    """The datagrams of a worker to systemd, each with its time."""

    received: list[tuple[float, str]] = field(default_factory=list)

    def since(self, start: float) -> list[str]:
        return [text for at, text in self.received if at > start]


@contextlib.contextmanager
def listening(path: Path) -> Iterator[Datagrams]:
    datagrams = Datagrams()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(0.2)
        stopped = threading.Event()

        def listen() -> None:
            while not stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    datagrams.received.append((time.monotonic(), receiver.recv(4096).decode()))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield datagrams
        finally:
            stopped.set()
            thread.join()


def test_the_watchdog_is_no_longer_fed_once_a_thread_hangs(
    world: FaultWorld, fork_server: ForkServer, tmp_path: Path
) -> None:
    watched = {"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "1500000"}
    with listening(tmp_path / "n") as datagrams:
        fault = f"hang:receive:5,{SHORT_LIMIT}"
        worker = fork_server.start(world, fault, threads=1, settings=watched)
        hung_at = world.wait_for_event("thread_hang", seconds=60)[0].at
        code = world.wait_for_exit(worker, EXIT_SECONDS)

    fed = [at for at, text in datagrams.received if text == "WATCHDOG=1"]
    assert code == 70
    assert fed
    assert max(fed) < hung_at + LIMIT_SECONDS + CHECK_SECONDS
    assert datagrams.received[0][1].startswith("READY=1")
