"""Consumer threads: starts them, restarts or ends those that die or hang, drains them on a stop."""

import faulthandler
import logging
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic

from product_consumer.errors import ConfigurationError, FatalError, QueueUnavailable, Unavailable
from product_consumer.pipeline.context import ProcessContext
from product_consumer.runtime.deaths import Deaths
from product_consumer.runtime.exit_codes import EXIT_FATAL, EXIT_OK
from product_consumer.runtime.signals import Shutdown
from product_consumer.runtime.stream import Stream

log = logging.getLogger(__name__)

MAX_RESTARTS, RESTART_WINDOW_SECONDS = 5, 60.0
"""A thread that dies more often has a fault that a restart does not cure."""

FATAL_DRAIN_SECONDS = 10.0
"""Time for the other threads to finish after a fatal error."""

RELEASE_SECONDS = 3.0
"""Bound on releasing messages, when the queue is slow to answer."""

OVERDUE_CHECKS = 5
"""Checks in a row, a second apart, that must find a thread overdue. After the process itself was
suspended, the first check finds every thread overdue."""

EMPTY_POLLS = 2
"""Polls in a row that must find the queues empty."""

_CHECK_SECONDS = 1.0


def dump_stacks_on_request() -> None:
    """Print the stacks of all threads to standard error on SIGUSR1 and on a crash."""
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
        faulthandler.register(signal.SIGUSR1, sys.__stderr__, all_threads=True)


class Supervisor:
    """The consumer threads of one process: run until stopped, then drained. For the main thread.

    A consumer thread that dies is started again. The process ends with ``FatalError`` when threads
    keep dying or a stream reports a failure. It ends at once, with ``EXIT_FATAL``, when a thread
    stays too long in a stage: nothing else is certain to work then. ``context``: the one of all
    streams, since its ``stages`` tell which thread hangs.
    """

    def __init__(
        self,
        shutdown: Shutdown,
        streams: Sequence[Stream],
        context: ProcessContext,
        *,
        drain_seconds: float,
    ) -> None:
        self._shutdown = shutdown
        self._streams = streams
        self._stages = context.stages
        self._metrics = context.metrics
        self._outages = context.outages
        self._drain_seconds = drain_seconds
        self._notifier = shutdown.notifier
        self._fatal: FatalError | None = None
        self._deaths: defaultdict[str, Deaths] = defaultdict(
            partial(Deaths, MAX_RESTARTS, RESTART_WINDOW_SECONDS)
        )
        self._overdue_checks = 0
        self._status = "Consuming"
        self._metrics.watch_in_flight(self._held)

    def run(
        self,
        consumers: Sequence[Callable[[threading.Event], None]],
        *,
        poll_seconds: Callable[[], float] | None,
        may_end: threading.Event | None = None,
    ) -> int:
        """Return the exit code once every thread has ended. Raises ``FatalError``.

        ``poll_seconds``: None runs until a signal. A function, asked before each poll, also ends
        the run when the queues were empty at two polls so far apart; polls count once ``may_end``
        is set.
        """
        with self._counting_deaths():
            for stream in self._streams:
                stream.in_flight.start(partial(self._stages.enter, "extend"))
            self._shutdown.release = self._release
            self._shutdown.consuming = True
            threads = [self._start(consume, number) for number, consume in enumerate(consumers, 1)]
            self._notifier.ready()
            self._wait(poll_seconds, may_end)
            self._drain(threads)
            for stream in self._streams:
                stream.in_flight.stop()
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

    def _wait(
        self, poll_seconds: Callable[[], float] | None, may_end: threading.Event | None
    ) -> None:
        stopping = self._shutdown.stopping
        empty_polls, next_poll = 0, monotonic() + (poll_seconds() if poll_seconds else 0.0)
        while not stopping.wait(_CHECK_SECONDS):
            self._check_threads()
            self._outages.report()
            self._notify_status()
            if poll_seconds is None or monotonic() < next_poll:
                continue
            if may_end is None or may_end.is_set():
                empty_polls = empty_polls + 1 if self._is_empty() else 0
            # Afterwards: a poll may have learnt of other consumers.
            next_poll = monotonic() + poll_seconds()
            if empty_polls == EMPTY_POLLS:
                log.info("The queue is empty")
                stopping.set()

    def _held(self) -> int:
        return sum(stream.in_flight.count for stream in self._streams)

    def _is_empty(self) -> bool:
        try:
            return self._held() == 0 and all(
                stream.queue.backlog().is_empty for stream in self._streams
            )
        except QueueUnavailable as error:
            log.warning("Cannot see whether the queue is empty: %s", error)
            return False

    def _check_threads(self) -> None:
        """Keep the watchdog quiet while everything makes progress; otherwise end the process."""
        failures = (stream.failure() for stream in self._streams)
        failure = next((text for text in failures if text is not None), None)
        if failure is not None:
            self._end(FatalError(failure))
            return
        overdue = self._stages.overdue()
        if not overdue:
            self._overdue_checks = 0
            self._notifier.ping()
            return
        self._overdue_checks += 1
        if self._overdue_checks >= OVERDUE_CHECKS:
            self._end_hanging(overdue)

    def _notify_status(self) -> None:
        down = self._metrics.down_dependencies()
        status = f"Waiting for {', '.join(down)}" if down else "Consuming"
        if status != self._status:
            self._status = status
            self._notifier.status(status)

    def _end_hanging(self, overdue: Sequence[str]) -> None:
        """Leave at once: a thread that hangs cannot be ended from outside, and may hold a lock."""
        log.critical("Ending the process: %s", "; ".join(overdue))
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        self._release(RELEASE_SECONDS, may_be_a_message=True)
        os._exit(EXIT_FATAL)

    def _drain(self, threads: Sequence[threading.Thread]) -> None:
        limit_seconds = self._drain_seconds
        if self._fatal is not None:
            limit_seconds = min(limit_seconds, FATAL_DRAIN_SECONDS)
            self._shutdown.limit(limit_seconds, EXIT_FATAL)
        log.info("Stopping: finishing %d messages in flight", self._held())
        deadline = monotonic() + limit_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        if any(thread.is_alive() for thread in threads):
            self._abandon()

    def _abandon(self) -> None:
        """Release the messages that took too long, and leave: their threads cannot be ended."""
        log.warning("Stopping: releasing %d messages that took too long", self._held())
        self._release(RELEASE_SECONDS)
        logging.shutdown()
        os._exit(EXIT_OK if self._fatal is None else EXIT_FATAL)

    def _release(self, limit_seconds: float, *, may_be_a_message: bool = False) -> None:
        """Release the messages in flight, as far as the queue answers in time.

        The others become visible by themselves. ``may_be_a_message``: one of them may be why the
        process ends. If none is, that is recorded, too.
        """
        deadline = monotonic() + limit_seconds
        is_innocent = not may_be_a_message and self._fatal is None
        threads = [
            threading.Thread(target=action, args=(stream,), name="release", daemon=True)
            for action in ((_leave, _release_held) if is_innocent else (_release_held,))
            for stream in self._streams
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))

    def _keep_running(self, consume: Callable[[threading.Event], None]) -> None:
        """Run a consumer; start it again after a bug of ours, unless threads keep dying."""
        stopping = self._shutdown.stopping
        while not stopping.is_set():
            self._stages.enter("start")
            try:
                consume(stopping)
            except FatalError as error:
                self._end(error)
            # SystemExit, too, would end this thread silently.
            except BaseException as error:
                log.exception("A consumer thread died; starting it again")
                self._count_death(threading.current_thread().name, error)
                stopping.wait(1.0)
        self._stages.leave()

    @contextmanager
    def _counting_deaths(self) -> Iterator[None]:
        """Log and count the deaths of all other threads during the block."""
        previous = threading.excepthook

        def count(arguments: threading.ExceptHookArgs) -> None:
            name = arguments.thread.name if arguments.thread is not None else "unknown"
            error = arguments.exc_value or arguments.exc_type()
            log.critical("The thread %s died", name, exc_info=error)
            self._count_death("other", error)

        threading.excepthook = count
        try:
            yield
        finally:
            threading.excepthook = previous

    def _count_death(self, name: str, error: BaseException) -> None:
        """``name``: of a thread that is started again; ``other`` for all threads that are not."""
        self._metrics.count_thread_death()
        deaths = self._deaths[name]
        deaths.add()
        if deaths.are_too_many:
            self._end(FatalError(f"threads keep dying ({name}): {type(error).__name__}: {error}"))

    def _end(self, error: FatalError) -> None:
        self._fatal = self._fatal or error
        self._shutdown.stopping.set()


def _leave(stream: Stream) -> None:
    try:
        stream.leave()
    except (Unavailable, ConfigurationError) as error:
        log.warning("Messages in work may pass for crash suspects: %s", error)


def _release_held(stream: Stream) -> None:
    held = stream.in_flight.held()
    # An extension that lands after a release would hide the message again.
    stream.in_flight.stop()
    try:
        if held:
            stream.queue.release(held)
    except QueueUnavailable as error:
        log.warning("Could not release messages, they come back by themselves: %s", error)
