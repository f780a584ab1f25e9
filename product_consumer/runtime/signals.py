"""Signals that stop: the first asks for a stop, a second ends the process, each in a bound.

SIGHUP asks for a stop, too, as when a terminal is closed. It never counts as a second signal:
shells and service managers send it several times, or after SIGTERM.
"""

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, NoReturn

from product_consumer.environment import SystemdEnvironment
from product_consumer.runtime.early_exit import stop_signals
from product_consumer.runtime.exit_codes import EXIT_OK, EXIT_SECOND_SIGNAL
from product_consumer.runtime.systemd import Notifier

SECOND_SIGNAL_SECONDS = 2.0
"""Time after a second signal to release the messages in flight."""

START_GRACE_SECONDS = 2.0
"""Time after a signal during the start to close everything: nothing is in flight then."""

CLOSE_GRACE_SECONDS = 4.0
"""Time after the drain to release the messages that are left, and to close everything."""

_CLOSE, _WAKE = b"\x00", b"\xff"


class Shutdown:
    """The end of a process: a signal sets ``stopping``, a second SIGTERM or SIGINT exits with 1.

    A context manager for the main thread. A thread of its own reads the signals from a pipe that
    Python's C handler writes to. So nothing runs inside a handler, where the interrupted code may
    hold any lock. Signals are obeyed even while the main thread is busy in a library.

    After the first signal the process ends within ``drain_seconds`` and ``CLOSE_GRACE_SECONDS``,
    whatever hangs. During the start (before ``consuming`` is set) it ends within
    ``START_GRACE_SECONDS``.
    """

    def __init__(self, drain_seconds: float = 25.0, notifier: Notifier | None = None) -> None:
        self.stopping = threading.Event()
        self.consuming = False
        self.release: Callable[[float], None] | None = None
        """Releases the messages in flight within so many seconds; called at the second signal."""
        self._drain_seconds = drain_seconds
        self.notifier = notifier or Notifier(SystemdEnvironment())
        self._ends_at: float | None = None
        self._exit_code = EXIT_OK
        self._signals = 0
        self._stop_signals = stop_signals()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Shutdown":
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._guard = threading.Thread(target=self._obey, name="stop", daemon=True)
        self._guard.start()
        self._previous_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._stop_signals:
            self._previous[number] = signal.signal(number, _do_nothing)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.write(self._writer, _CLOSE)
        self._guard.join()
        os.close(self._reader)
        os.close(self._writer)

    def limit(self, seconds: float, exit_code: int) -> None:
        """End the process with this code after ``seconds`` and the time to close.

        An earlier limit stays.
        """
        self._exit_code = exit_code
        self._end_within(seconds + CLOSE_GRACE_SECONDS)
        os.write(self._writer, _WAKE)

    def _obey(self) -> None:
        while True:
            ends_at = self._ends_at
            wait_seconds = None if ends_at is None else max(0.0, ends_at - monotonic())
            readable, _, _ = select.select([self._reader], [], [], wait_seconds)
            if not readable:
                os._exit(self._exit_code)
            received = os.read(self._reader, 64)
            if _CLOSE in received:
                return
            for number in received:
                if number in self._stop_signals:
                    self._handle(number)

    def _handle(self, number: int) -> None:
        if number == signal.SIGHUP and self.stopping.is_set():
            return
        self._signals += number != signal.SIGHUP
        if self._signals > 1:
            self._leave()
        limit_seconds = START_GRACE_SECONDS
        if self.consuming:
            limit_seconds = self._drain_seconds + CLOSE_GRACE_SECONDS
        self._end_within(limit_seconds)
        self.stopping.set()
        self.notifier.stopping()

    def _leave(self) -> None:
        try:
            if self.release is not None:
                self.release(SECOND_SIGNAL_SECONDS)
        finally:
            os._exit(EXIT_SECOND_SIGNAL)

    def _end_within(self, seconds: float) -> None:
        ends_at = monotonic() + seconds
        self._ends_at = ends_at if self._ends_at is None else min(self._ends_at, ends_at)


def leave(exit_code: int) -> NoReturn:
    """End the process now; everything must be closed before.

    The interpreter's own end has no bound: once torch is loaded it takes seconds, many on a busy
    machine, and a library's threads can make it hang.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # The reader of the stream may be gone.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(exit_code)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Python writes a signal to the pipe only if the signal has a handler."""
