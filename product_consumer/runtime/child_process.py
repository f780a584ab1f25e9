"""A child process as its parent sees it: started, heard, signalled and reaped."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

WATCHDOG_SECONDS = 30.0
"""Time within which a child must send a sign of life; it sends three."""

START_SECONDS = 1800.0
"""Bound of a start: the first start downloads the weights, and waits for stores that are down."""

_MOST_DATAGRAMS = 100
_DATAGRAM_BYTES = 4096


class Child:
    """A running worker process, which talks to its parent as it would to systemd.

    It gets a socket of its own; a process group of its own, so that a terminal's Ctrl-C reaches it
    only by way of its parent; and a standard input that ends with its parent, for
    ``end_with_parent``. One thread starts, hears and closes it; any thread may signal it.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        *,
        start_seconds: float = START_SECONDS,
        watchdog_seconds: float = WATCHDOG_SECONDS,
        drain_seconds: float,
    ) -> None:
        """Start the process. Raises ``OSError``.

        ``directory``: private to this user, holds the socket. ``start_seconds``: bound of its
        start. ``watchdog_seconds`` and ``drain_seconds``: bound of its silence, together.
        """
        self.number = number
        self.is_ready = False
        self.status = "Starting"
        self._has_spoken = False
        self._start_seconds = start_seconds
        # A child that drains sends no signs of life.
        self._silence_seconds = watchdog_seconds + drain_seconds
        self._quiet_seconds = 0.0
        path = directory / str(number)
        path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._listening.setblocking(False)
            self._listening.bind(str(path))
            self._process = subprocess.Popen(  # noqa: S603 - the caller's own program
                command,
                env={**environment, **_notify_environment(path, watchdog_seconds)},
                stdin=subprocess.PIPE,
                process_group=0,
            )
        except BaseException:
            self._listening.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, the negative number of the signal that ended it, or None."""
        return self._process.poll()

    def listen(self, elapsed_seconds: float) -> None:
        """Read its messages; ``elapsed_seconds`` have passed since the last call."""
        self._quiet_seconds += elapsed_seconds
        for _ in range(_MOST_DATAGRAMS):
            try:
                text = self._listening.recv(_DATAGRAM_BYTES).decode(errors="replace")
            except OSError:
                return
            self._has_spoken = True
            for line in text.splitlines():
                self._take(line)

    @property
    def is_overdue(self) -> bool:
        """Whether it has sent no sign of life for longer than it may."""
        limit_seconds = self._silence_seconds if self.is_ready else self._start_seconds
        return self._quiet_seconds > limit_seconds

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def dump_stacks(self) -> None:
        """Have it print the stacks of all its threads."""
        # Before its first message it may have no handler yet, and the signal would end it.
        self.listen(0.0)
        if self._has_spoken:
            self.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close its socket and pipe; call it when the process has ended."""
        self._listening.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _take(self, line: str) -> None:
        name, _, value = line.partition("=")
        if name == "STATUS":
            self.status = value
        elif line == "READY=1":
            self.is_ready = True
        if line in ("READY=1", "WATCHDOG=1"):
            self._quiet_seconds = 0.0


def _notify_environment(path: Path, watchdog_seconds: float) -> dict[str, str]:
    return {
        "NOTIFY_SOCKET": str(path),
        "WATCHDOG_USEC": str(round(watchdog_seconds * 1e6)),
        # Empty stands for any process that reads it. The parent may have inherited its own number.
        "WATCHDOG_PID": "",
    }


def end_in_words(code: int) -> str:
    """Describe how a process ended. ``code``: the result of ``Child.poll``."""
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def end_with_parent() -> None:
    """Stop this process, as by SIGTERM, when the parent that ``Child`` gave it has ended."""
    threading.Thread(target=_await_end_of_input, name="parent", daemon=True).start()


def _await_end_of_input() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 64):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
