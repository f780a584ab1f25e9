"""Several worker processes run as one service.

The parent starts and watches its children, and does nothing else: it loads no model and opens no
queue, so it has nothing to lose and little to die of. The children are the same program.

- The parent passes a first signal to stop on to every child, which drains; a second ends all at
  once. It passes SIGUSR1 on to every child, which prints its stacks.
- A child that ends unasked is started again after a growing pause; its messages become visible by
  themselves. After more than ``MAX_DEATHS`` deaths in ``DEATHS_WINDOW_SECONDS`` a restart does not
  help: the parent drains the other children and ends with 70.
- A child that ends with 2 or 78 (nothing configured, configuration that cannot work) ends all.
- Each child tells its parent what it would tell systemd. systemd hears READY when all children
  are ready. A child without signs of life is ended with its stacks in the log, and started again.
  While a child cannot be ended, systemd hears no WATCHDOG, and ends the service.
- When the parent dies, its children drain.
"""

import contextlib
import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from product_consumer.errors import FatalError
from product_consumer.pipeline.backoff import exponential_delay_seconds
from product_consumer.runtime.child_process import (
    START_SECONDS,
    WATCHDOG_SECONDS,
    Child,
    end_in_words,
)
from product_consumer.runtime.deaths import Deaths
from product_consumer.runtime.exit_codes import EXIT_CONFIGURATION, EXIT_FATAL, EXIT_OK, EXIT_USAGE
from product_consumer.runtime.signals import CLOSE_GRACE_SECONDS, Shutdown

log = logging.getLogger(__name__)

MAX_DEATHS, DEATHS_WINDOW_SECONDS = 5, 600.0
"""Five pauses, each twice as long, and five starts of up to a minute and a half."""

KILL_GRACE_SECONDS = 0.4
"""Time beyond a child's own bounds before it is killed."""

PARENT_GRACE_SECONDS = 0.8
"""Time that the parent needs beyond its children's bounds."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_CHECK_SECONDS = 0.2
_STACKS_SECONDS = 0.3
_ABORT_SECONDS = 3.0

# A signal ends a child that has no handlers yet.
_STOPPED = (EXIT_OK, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in seconds; tests shorten them."""

    start: float = START_SECONDS
    watchdog: float = WATCHDOG_SECONDS
    first_pause: float = _FIRST_PAUSE_SECONDS


@dataclass(slots=True)
class _Place:
    """The place of one child, filled again when it dies."""

    number: int
    child: Child | None = None
    starts_at: float = 0.0
    is_done: bool = False
    aborted_at: float | None = None
    deaths: Deaths = field(default_factory=partial(Deaths, MAX_DEATHS, DEATHS_WINDOW_SECONDS))


class ProcessSupervisor:
    """The parent of ``count`` worker processes. For the main thread, inside ``shutdown``.

    ``shutdown``: made with the children's time to drain plus ``PARENT_GRACE_SECONDS``. ``command``
    and ``environment`` give those of a child by its number, from 1. ``ends_when_empty``: a child
    that ends with 0 has done its work.
    """

    def __init__(
        self,
        shutdown: Shutdown,
        count: int,
        command: Callable[[int], Sequence[str]],
        environment: Callable[[int], Mapping[str, str]],
        *,
        drain_seconds: float,
        ends_when_empty: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._shutdown = shutdown
        self._notifier = shutdown.notifier
        self._command = command
        self._environment = environment
        self._drain_seconds = drain_seconds
        self._ends_when_empty = ends_when_empty
        self._limits = limits or Limits()
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._was_ready = False
        self._status = ""
        self._exit_code = EXIT_OK
        self._fatal: FatalError | None = None
        self._checked_at = monotonic()

    def run(self) -> int:
        """Return the exit code once every child has ended: 0 when all were done or drained.

        Call it once. Raises ``FatalError`` when a child keeps dying.
        """
        directory = TemporaryDirectory(prefix="product-consumer-", ignore_cleanup_errors=True)
        with directory as path, self._passing_on_stack_requests():
            self._directory = Path(path)
            self._shutdown.release = self._end_at_once
            self._shutdown.consuming = True
            try:
                while not self._is_over():
                    self._check()
                self._drain()
            finally:
                for child in self._children():
                    child.kill()
        if self._fatal is not None:
            raise self._fatal
        return self._exit_code

    @contextmanager
    def _passing_on_stack_requests(self) -> Iterator[None]:
        def pass_on(*_: object) -> None:
            threading.Thread(target=self._dump_stacks, name="stacks", daemon=True).start()

        previous = signal.signal(signal.SIGUSR1, pass_on)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, previous)

    def _dump_stacks(self) -> None:
        # All children print to one stream: at the same time, their lines would mix.
        pause = threading.Event()
        for child in self._children():
            child.dump_stacks()
            pause.wait(_STACKS_SECONDS)

    def _children(self) -> list[Child]:
        return [place.child for place in self._places if place.child is not None]

    def _is_over(self) -> bool:
        return self._shutdown.stopping.is_set() or all(place.is_done for place in self._places)

    def _check(self) -> None:
        now = monotonic()
        # No child is blamed for time in which this process did not run (suspended, frozen).
        elapsed_seconds = min(now - self._checked_at, 5 * _CHECK_SECONDS)
        self._checked_at = now
        for place in self._places:
            if place.child is not None:
                self._check_child(place, place.child, elapsed_seconds)
            elif not place.is_done and now >= place.starts_at:
                self._start(place)
        self._notify()
        self._shutdown.stopping.wait(_CHECK_SECONDS)

    def _start(self, place: _Place) -> None:
        place.aborted_at = None
        try:
            place.child = Child(
                place.number,
                self._command(place.number),
                self._environment(place.number),
                self._directory,
                start_seconds=self._limits.start,
                watchdog_seconds=self._limits.watchdog,
                drain_seconds=self._drain_seconds,
            )
        except OSError as error:
            self._record_death(place, f"cannot be started: {error}")
        else:
            log.info("Process %d of %d is %d", place.number, len(self._places), place.child.pid)

    def _check_child(self, place: _Place, child: Child, elapsed_seconds: float) -> None:
        child.listen(elapsed_seconds)
        code = child.poll()
        if code is not None:
            place.child = None
            child.close()
            self._record_end(place, code)
        elif child.is_overdue:
            self._end_hanging(place, child)

    def _record_end(self, place: _Place, code: int) -> None:
        if code == EXIT_OK and self._ends_when_empty:
            place.is_done = True
        elif code in (EXIT_USAGE, EXIT_CONFIGURATION):
            log.error("Process %d cannot work as configured: stopping all", place.number)
            self._exit_code = code
            self._shutdown.stopping.set()
        else:
            self._record_death(place, end_in_words(code))

    def _record_death(self, place: _Place, reason: str) -> None:
        place.deaths.add()
        if place.deaths.are_too_many:
            self._fatal = FatalError(f"process {place.number} keeps dying: {reason}")
            self._shutdown.stopping.set()
            return
        log.error("Process %d %s; starting it again", place.number, reason)
        place.starts_at = monotonic() + exponential_delay_seconds(
            place.deaths.count, self._limits.first_pause, _LONGEST_PAUSE_SECONDS
        )

    def _end_hanging(self, place: _Place, child: Child) -> None:
        """Abort the child, which prints its stacks; kill it if it does not end by that."""
        now = monotonic()
        if place.aborted_at is None:
            log.critical("Process %d shows no sign of life: ending it", place.number)
            place.aborted_at = now
            child.status = "Hanging"
            child.send_signal(signal.SIGABRT)
        elif now - place.aborted_at > _ABORT_SECONDS:
            child.kill()

    def _notify(self) -> None:
        """Tell systemd how the children are."""
        children = self._children()
        if not self._was_ready and sum(child.is_ready for child in children) == len(self._places):
            self._was_ready = True
            self._notifier.ready()
        counts = Counter(child.status for child in children)
        waiting = sum(place.child is None and not place.is_done for place in self._places)
        counts.update({"Starting again": waiting} if waiting else {})
        status = ", ".join(f"{text} ({count})" for text, count in sorted(counts.items()))
        if status != self._status:
            self._status = status
            self._notifier.status(status)
        if not any(child.is_overdue for child in children):
            self._notifier.ping()

    def _drain(self) -> None:
        """Let every child finish, and reap them all."""
        limit_seconds = self._drain_seconds + CLOSE_GRACE_SECONDS + KILL_GRACE_SECONDS
        self._shutdown.limit(self._drain_seconds + PARENT_GRACE_SECONDS, EXIT_FATAL)
        self._notifier.stopping()
        for child in self._children():
            child.send_signal(signal.SIGTERM)
        deadline = monotonic() + limit_seconds
        pause = threading.Event()
        while self._reap() and monotonic() < deadline:
            self._notifier.ping()
            pause.wait(_CHECK_SECONDS / 4)
        for child in self._children():
            log.error("Process %d did not end in time: killing it", child.number)
            self._exit_code = self._exit_code or EXIT_FATAL
        if not self._children():
            log.info("Stopped: every process has ended")

    def _reap(self) -> bool:
        """Close the children that have ended; return whether any is left."""
        for place in self._places:
            code = None if place.child is None else place.child.poll()
            if place.child is None or code is None:
                continue
            place.child.close()
            place.child = None
            if code not in _STOPPED:
                log.error("Process %d %s while it stopped", place.number, end_in_words(code))
                self._exit_code = self._exit_code or EXIT_FATAL
        return bool(self._children())

    def _end_at_once(self, limit_seconds: float) -> None:
        """Pass a second signal on, and leave no child behind."""
        children = self._children()
        for child in children:
            # Two numbers: a pending signal would swallow another of its kind.
            child.send_signal(signal.SIGTERM)
            child.send_signal(signal.SIGINT)
        deadline = monotonic() + limit_seconds + KILL_GRACE_SECONDS
        pause = threading.Event()
        while any(child.poll() is None for child in children) and monotonic() < deadline:
            pause.wait(_CHECK_SECONDS / 4)
        for child in children:
            child.kill()
        for place in self._places:
            # This process is about to end without its own cleanup. The main thread may have just
            # seen a child end, and not have removed its socket yet.
            (self._directory / str(place.number)).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._directory.rmdir()
