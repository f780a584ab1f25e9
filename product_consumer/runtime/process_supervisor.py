"""Several worker processes run as one service.

The parent starts them and watches over them, and does nothing else: it loads no model and opens no
queue, so it has nothing to lose and little to die of. The children are the same program.

- A first SIGTERM or SIGINT goes on to every child, which drains; a second ends all at once.
  SIGUSR1 goes on to every child, which prints its stacks.
- A child that ends unasked is started again after a growing pause: whatever it held becomes visible
  by itself. One that does so more than ``MAX_DEATHS`` times in ``DEATHS_WINDOW_SECONDS`` has a
  cause that a restart does not cure: the others are drained and the parent ends with 70.
- A child that ends with 2 or 78 (nothing configured, configuration that cannot work) ends all.
- Each child tells its parent what it would tell systemd. systemd hears READY when all children
  are ready. A child without signs of life is ended with its stacks in the log, and started again;
  while one cannot be ended, systemd hears no WATCHDOG, and ends the service.
- When the parent dies, its children drain.
"""

import contextlib
import logging
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from product_consumer.runtime.exit_codes import (
    EXIT_CONFIGURATION,
    EXIT_FATAL,
    EXIT_OK,
    EXIT_USAGE,
)
from product_consumer.runtime.signals import CLOSE_GRACE_SECONDS, Shutdown

log = logging.getLogger(__name__)

MAX_DEATHS, DEATHS_WINDOW_SECONDS = 5, 600.0
"""Five pauses, each twice as long, and five starts of up to a minute and a half."""

KILL_GRACE_SECONDS = 0.4
"""What a child has on top of its own bounds before it is killed."""

PARENT_GRACE_SECONDS = 0.8
"""What the parent needs on top of its children's bounds."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_CHECK_SECONDS = 0.2
_STACKS_SECONDS = 0.3
_ABORT_SECONDS = 3.0

# What ends a child that has not come to its handlers yet.
_STOPPED = (EXIT_OK, -signal.SIGTERM, -signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds; tests shorten them."""

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
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_DEATHS + 1))


class ProcessSupervisor:
    """Runs ``count`` children; ``run`` is called once, in the main thread, inside ``shutdown``.

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

        Raises ``FatalError`` when children keep dying.
        """
        with self._private_directory(), self._passing_on_stack_requests():
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
    def _private_directory(self) -> Iterator[None]:
        with TemporaryDirectory(prefix="product-consumer-", ignore_cleanup_errors=True) as path:
            self._directory = Path(path)
            yield

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
        # They print to one stream, a piece at a time: all at once, nobody could read it.
        pause = threading.Event()
        for child in self._children():
            child.dump_stacks()
            pause.wait(_STACKS_SECONDS)

    def _children(self) -> list[Child]:
        return [place.child for place in self._places if place.child is not None]

    def _is_over(self) -> bool:
        if self._shutdown.stopping.is_set():
            return True
        return all(place.is_done for place in self._places)

    def _check(self) -> None:
        now = monotonic()
        # Time in which this process did not run (suspended, frozen) is not held against a child.
        elapsed_seconds = min(now - self._checked_at, 5 * _CHECK_SECONDS)
        self._checked_at = now
        for place in self._places:
            if place.child is not None:
                self._check_child(place, place.child, elapsed_seconds)
            elif not place.is_done and now >= place.starts_at:
                self._start(place)
        self._tell()
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
            self._note_death(place, f"cannot be started: {error}")
        else:
            log.info("Process %d of %d is %d", place.number, len(self._places), place.child.pid)

    def _check_child(self, place: _Place, child: Child, elapsed_seconds: float) -> None:
        child.listen(elapsed_seconds)
        code = child.poll()
        if code is not None:
            place.child = None
            child.close()
            self._note_end(place, code)
        elif child.is_overdue:
            self._end_hanging(place, child)

    def _note_end(self, place: _Place, code: int) -> None:
        if code == EXIT_OK and self._ends_when_empty:
            place.is_done = True
        elif code in (EXIT_USAGE, EXIT_CONFIGURATION):
            log.error("Process %d cannot work as configured: stopping all", place.number)
            self._exit_code = code
            self._shutdown.stopping.set()
        else:
            self._note_death(place, end_in_words(code))

    def _note_death(self, place: _Place, reason: str) -> None:
        deaths = place.deaths
        deaths.append(monotonic())
        if len(deaths) > MAX_DEATHS and deaths[-1] - deaths[0] < DEATHS_WINDOW_SECONDS:
            self._fatal = FatalError(f"process {place.number} keeps dying: {reason}")
            self._shutdown.stopping.set()
            return
        log.error("Process %d %s; starting it again", place.number, reason)
        recent = sum(deaths[-1] - at < DEATHS_WINDOW_SECONDS for at in deaths)
        place.starts_at = deaths[-1] + exponential_delay_seconds(
            recent, self._limits.first_pause, _LONGEST_PAUSE_SECONDS
        )

    def _end_hanging(self, place: _Place, child: Child) -> None:
        """Ask for its stacks, which ends it too; kill it when even that finds no answer."""
        now = monotonic()
        if place.aborted_at is None:
            log.critical("Process %d shows no sign of life: ending it", place.number)
            place.aborted_at = now
            child.status = "Hanging"
            child.send_signal(signal.SIGABRT)
        elif now - place.aborted_at > _ABORT_SECONDS:
            child.kill()

    def _tell(self) -> None:
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
        """Have every child finish, and reap them."""
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
        """Note who has ended; return whether anybody is left."""
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
        """Second signal: pass it on and leave nobody behind."""
        children = self._children()
        for child in children:
            # Two numbers: one that still waits to be taken would swallow another of its kind.
            child.send_signal(signal.SIGTERM)
            child.send_signal(signal.SIGINT)
        deadline = monotonic() + limit_seconds + KILL_GRACE_SECONDS
        pause = threading.Event()
        while any(child.poll() is None for child in children) and monotonic() < deadline:
            pause.wait(_CHECK_SECONDS / 4)
        for child in children:
            child.kill()
            # The process ends without its cleanup.
            (self._directory / str(child.number)).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._directory.rmdir()
