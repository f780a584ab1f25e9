"""Threads and signals: start consumers, notice when they die or hang, drain them when asked to
stop.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from product_consumer.errors import FatalError, QueueUnavailable
from product_consumer.runtime.signals import (
    EXIT_CONFIGURATION,
    EXIT_FATAL,
    EXIT_OK,
    EXIT_SECOND_SIGNAL,
    EXIT_USAGE,
    Stop,
)

if TYPE_CHECKING:
    # Their packages load boto3, which a start that only reports a wrong setting should not wait
    # for.
    from product_consumer.metrics import Metrics
    from product_consumer.queues.base import MessageQueue
    from product_consumer.queues.in_flight import InFlightTracker

__all__ = [
    "EXIT_CONFIGURATION",
    "EXIT_FATAL",
    "EXIT_OK",
    "EXIT_SECOND_SIGNAL",
    "EXIT_USAGE",
    "Source",
    "Stop",
    "Supervisor",
    "dump_stacks_on_request",
]

log = logging.getLogger(__name__)

MAX_RESTARTS, RESTART_WINDOW_SECONDS = 5, 60.0
"""A thread that dies more often than this has a cause that a restart does not cure."""

FATAL_DRAIN_SECONDS = 10.0
"""What a fatal error leaves the other threads to finish in."""

RELEASE_SECONDS = 3.0
"""Bound on giving back what is held, when the queue is slow to answer."""

HANGING_LOOKS = 5
"""Looks, a second apart, that must all find a thread overdue: a process that was itself suspended
finds every thread overdue at its first look."""

_LOOK_SECONDS = 1.0
_LOOKS_WHEN_EMPTY = 2


def dump_stacks_on_request() -> None:
    """Print the stacks of all threads to standard error on SIGUSR1 and on a crash."""
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
        faulthandler.register(signal.SIGUSR1, sys.__stderr__, all_threads=True)


@dataclass(frozen=True, slots=True)
class Source:
    """A queue, and what is received from it and not settled yet."""

    queue: "MessageQueue"
    in_flight: "InFlightTracker"


class Supervisor:
    """Runs consumer threads until stopped, then drains: finish, and release the rest.

    A consumer thread that dies is started again. The process ends with ``FatalError`` or, where
    nothing else is certain to work, at once with ``EXIT_FATAL``, when threads keep dying, when one
    hangs (``metrics.beats``), or when ``broken`` names a part that cannot work any more.
    """

    def __init__(
        self,
        stop: Stop,
        sources: Sequence[Source],
        metrics: "Metrics",
        *,
        drain_seconds: float,
        broken: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._stop = stop
        self._sources = sources
        self._metrics = metrics
        self._drain_seconds = drain_seconds
        self._broken = broken
        self._notifier = stop.notifier
        self._fatal: FatalError | None = None
        self._deaths: defaultdict[str, deque[float]] = defaultdict(
            partial(deque, maxlen=MAX_RESTARTS + 1)
        )
        self._overdue_looks = 0
        self._status = "Consuming"
        metrics.watch_in_flight(self._held)

    def run(
        self,
        consumers: Sequence[Callable[[threading.Event], None]],
        *,
        look_seconds: float | None,
        wait_for: threading.Event | None = None,
    ) -> int:
        """Return the exit code once every thread has ended.

        ``look_seconds``: None runs until a signal; otherwise also ends when the queue was empty at
        two looks this far apart, not counted before ``wait_for`` is set. Raises ``FatalError``.
        """
        with self._noting_deaths():
            for source in self._sources:
                source.in_flight.start(partial(self._metrics.beats.at, "extend"))
            self._stop.release = self._release
            self._stop.consuming = True
            threads = [self._start(consume, number) for number, consume in enumerate(consumers, 1)]
            self._notifier.ready()
            self._wait(look_seconds, wait_for)
            self._drain(threads)
            for source in self._sources:
                source.in_flight.stop()
        if self._fatal is not None:
            raise self._fatal
        log.info("Stopped: everything in flight is settled")
        return EXIT_OK

    def _start(self, consume: Callable[[threading.Event], None], number: int) -> threading.Thread:
        thread = threading.Thread(
            target=self._keep_running, args=(consume,), name=f"consumer-{number}", daemon=True
        )
        thread.start()
        return thread

    def _wait(self, look_seconds: float | None, wait_for: threading.Event | None) -> None:
        stopping = self._stop.requested
        looks, next_look = 0, monotonic() + (look_seconds or 0.0)
        while not stopping.wait(_LOOK_SECONDS):
            self._look_at_threads()
            self._tell_status()
            if look_seconds is None or monotonic() < next_look:
                continue
            next_look = monotonic() + look_seconds
            if wait_for is None or wait_for.is_set():
                looks = looks + 1 if self._looks_empty() else 0
            if looks == _LOOKS_WHEN_EMPTY:
                log.info("The queue is empty")
                stopping.set()

    def _held(self) -> int:
        return sum(source.in_flight.count for source in self._sources)

    def _looks_empty(self) -> bool:
        try:
            return self._held() == 0 and all(
                source.queue.backlog().is_empty for source in self._sources
            )
        except QueueUnavailable as error:
            log.warning("Cannot see whether the queue is empty: %s", error)
            return False

    def _look_at_threads(self) -> None:
        """Keep the watchdog quiet while every part is alive and gets on; end the process else."""
        broken = self._broken()
        if broken is not None:
            self._end(FatalError(broken))
            return
        overdue = self._metrics.beats.overdue()
        if not overdue:
            self._overdue_looks = 0
            self._notifier.ping()
            return
        self._overdue_looks += 1
        if self._overdue_looks >= HANGING_LOOKS:
            self._end_hanging(overdue)

    def _tell_status(self) -> None:
        down = self._metrics.open_parts()
        status = f"Waiting for {', '.join(down)}" if down else "Consuming"
        if status != self._status:
            self._status = status
            self._notifier.status(status)

    def _end_hanging(self, overdue: Sequence[str]) -> None:
        """Leave at once: a thread that hangs cannot be ended from outside, and may hold a lock."""
        log.critical("Ending the process: %s", "; ".join(overdue))
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        self._release(RELEASE_SECONDS)
        os._exit(EXIT_FATAL)

    def _drain(self, threads: Sequence[threading.Thread]) -> None:
        limit_seconds = self._drain_seconds
        if self._fatal is not None:
            limit_seconds = min(limit_seconds, FATAL_DRAIN_SECONDS)
            self._stop.limit(limit_seconds, EXIT_FATAL)
        log.info("Stopping: finishing %d messages in flight", self._held())
        deadline = monotonic() + limit_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        if any(thread.is_alive() for thread in threads):
            self._abandon()

    def _abandon(self) -> None:
        """Give back what could not be finished in time and leave: its threads cannot be ended from
        outside.
        """
        log.warning("Stopping: releasing %d messages that took too long", self._held())
        self._release(RELEASE_SECONDS)
        logging.shutdown()
        os._exit(EXIT_OK if self._fatal is None else EXIT_FATAL)

    def _release(self, limit_seconds: float) -> None:
        """Make what is held visible to others; what the queue does not take in time comes back by
        itself.
        """
        deadline = monotonic() + limit_seconds
        threads = [
            threading.Thread(target=_release_held, args=(source,), name="release", daemon=True)
            for source in self._sources
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))

    def _keep_running(self, consume: Callable[[threading.Event], None]) -> None:
        """Run one consumer; start it again after a bug of ours, unless threads keep dying."""
        stopping = self._stop.requested
        beats = self._metrics.beats
        while not stopping.is_set():
            beats.at("start")
            try:
                consume(stopping)
            except FatalError as error:
                self._end(error)
            # SystemExit too would end this thread, without a word.
            except BaseException as error:
                log.exception("A consumer thread died; starting it again")
                self._note_death(threading.current_thread().name, error)
                stopping.wait(1.0)
        beats.leave()

    @contextmanager
    def _noting_deaths(self) -> Iterator[None]:
        """Log the death of any other thread too, and count it."""
        previous = threading.excepthook

        def note(arguments: threading.ExceptHookArgs) -> None:
            name = arguments.thread.name if arguments.thread is not None else "unknown"
            error = arguments.exc_value or arguments.exc_type()
            log.critical("The thread %s died", name, exc_info=error)
            self._note_death("other", error)

        threading.excepthook = note
        try:
            yield
        finally:
            threading.excepthook = previous

    def _note_death(self, name: str, error: BaseException) -> None:
        """``name``: of a thread that is started again, or one for all that are not."""
        self._metrics.count_thread_death()
        deaths = self._deaths[name]
        deaths.append(monotonic())
        if len(deaths) > MAX_RESTARTS and deaths[-1] - deaths[0] < RESTART_WINDOW_SECONDS:
            self._end(FatalError(f"threads keep dying ({name}): {type(error).__name__}: {error}"))

    def _end(self, error: FatalError) -> None:
        self._fatal = self._fatal or error
        self._stop.requested.set()


def _release_held(source: Source) -> None:
    held = source.in_flight.held()
    # An extension that lands after a release would hide the message again.
    source.in_flight.stop()
    try:
        if held:
            source.queue.release(held)
    except QueueUnavailable as error:
        log.warning("Could not release them, they come back by themselves: %s", error)
