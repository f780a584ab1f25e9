"""Notifications to systemd, over a real datagram socket."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from product_consumer.environment import SystemdEnvironment, read_systemd_environment
from product_consumer.runtime.systemd import Notifier
from tests.support.paths import REPOSITORY

SCRIPT = REPOSITORY / "tests/support/programs/one_worker.py"


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """The socket at which systemd would listen."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(address)
        listening.settimeout(20)
        yield listening


def received(listening: socket.socket) -> str:
    return listening.recv(4096).decode()


def all_received(listening: socket.socket) -> list[str]:
    listening.setblocking(False)
    datagrams = []
    while True:
        try:
            datagrams.append(received(listening))
        except BlockingIOError:
            return datagrams


def start(behaviour: str, address: Path, watchdog_usec: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), behaviour],
        env={
            "PYTHONPATH": str(REPOSITORY),
            "NOTIFY_SOCKET": str(address),
            "WATCHDOG_USEC": str(watchdog_usec),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_socket_with_a_path_is_told(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as listening:
        Notifier(SystemdEnvironment(address)).ready()

        assert "READY=1" in received(listening).splitlines()


def test_an_abstract_socket_is_told() -> None:
    name = f"product-consumer-test-{os.getpid()}"
    with manager(f"\0{name}") as listening:
        Notifier(SystemdEnvironment(f"@{name}")).stopping()

        assert "STOPPING=1" in received(listening).splitlines()


def test_a_status_is_one_line(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as listening:
        Notifier(SystemdEnvironment(address)).status("waiting\nREADY=1")

        assert received(listening) == "STATUS=waiting READY=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1234"])
def test_nobody_to_tell_is_no_error(address: str) -> None:
    notifier = Notifier(SystemdEnvironment(address, 1))

    notifier.ready()
    notifier.ping()


def test_pings_are_sent_at_a_third_of_the_watchdogs_time(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as listening:
        notifier = Notifier(SystemdEnvironment(address, watchdog_usec=60_000_000))
        for _ in range(5):
            notifier.ping()

        assert all_received(listening) == ["WATCHDOG=1"]


def test_without_a_watchdog_there_are_no_pings(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as listening:
        Notifier(SystemdEnvironment(address)).ping()

        assert all_received(listening) == []


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    assert read_systemd_environment() == SystemdEnvironment("/run/notify", 60_000_000)


@pytest.mark.parametrize(("usec", "pid"), [("60000000", "1"), ("soon", ""), ("", "")])
def test_a_watchdog_that_is_not_for_us_is_ignored(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)

    assert read_systemd_environment().watchdog_usec == 0


def test_a_worker_says_when_it_is_ready_alive_and_stopping(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as listening:
        worker = start("poll", tmp_path / "notify", watchdog_usec=300_000)
        first, second = received(listening), received(listening)
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(20)

        assert "READY=1" in first.splitlines()
        assert second == "WATCHDOG=1"
        assert "STOPPING=1" in all_received(listening)[-1].splitlines()
        assert code == 0


def test_the_watchdog_hears_nothing_of_a_worker_that_hangs(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as listening:
        worker = start("hang", tmp_path / "notify", watchdog_usec=300_000)
        code = worker.wait(30)

        assert not [text for text in all_received(listening) if "WATCHDOG" in text]
        assert code == 70
