"""Threads and signals: start consumers, notice when they die, drain them when asked to stop."""

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from product_consumer.errors import FatalError, QueueUnavailable

if TYPE_CHECKING:
    # Their packages load boto3, which a start that only reports a wrong setting should not wait
    # for.
    from product_consumer.in_flight import InFlightTracker
    from product_consumer.queues.base import MessageQueue

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_SECOND_SIGNAL = 1
EXIT_USAGE = 2
EXIT_FATAL = 70
EXIT_CONFIGURATION = 78

MAX_RESTARTS, RESTART_WINDOW_SECONDS = 5, 60.0
"""A consumer thread that dies more often than this has a cause that a restart does not cure."""

_LOOKS_WHEN_EMPTY = 2


class Stop:
    """Turns SIGTERM and SIGINT into ``requested``; a second one ends the process at once.

    Before ``consuming`` is set nothing is in flight, so the first signal simply exits.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.consuming = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        # Nothing here may take a lock or log: the interrupted code may hold that very lock.
        if self.requested.is_set():
            os._exit(EXIT_SECOND_SIGNAL)
        self.requested.set()
        if not self.consuming:
            raise SystemExit(EXIT_OK)


class Supervisor:
    """Runs consumer threads until stopped, then drains: finish, and release the rest."""

    def __init__(
        self,
        stop: Stop,
        queue: "MessageQueue",
        in_flight: "InFlightTracker",
        *,
        drain_seconds: float,
    ) -> None:
        self._stop = stop
        self._queue = queue
        self._in_flight = in_flight
        self._drain_seconds = drain_seconds
        self._fatal: FatalError | None = None

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
        self._in_flight.start()
        threads = [
            threading.Thread(
                target=self._keep_running, args=(consume,), name=f"consumer-{number}", daemon=True
            )
            for number, consume in enumerate(consumers, 1)
        ]
        self._stop.consuming = True
        for thread in threads:
            thread.start()
        self._wait(look_seconds, wait_for)
        self._drain(threads)
        self._in_flight.stop()
        if self._fatal is not None:
            raise self._fatal
        log.info("Stopped: everything in flight is settled")
        return EXIT_OK

    def _wait(self, look_seconds: float | None, wait_for: threading.Event | None) -> None:
        stopping = self._stop.requested
        looks = 0
        while looks < _LOOKS_WHEN_EMPTY:
            # A bounded wait: Python runs signal handlers between two of them.
            if stopping.wait(look_seconds or 1.0):
                return
            if look_seconds is not None and (wait_for is None or wait_for.is_set()):
                looks = looks + 1 if self._looks_empty() else 0
        log.info("The queue is empty")
        stopping.set()

    def _looks_empty(self) -> bool:
        try:
            return self._in_flight.count == 0 and self._queue.backlog().is_empty
        except QueueUnavailable as error:
            log.warning("Cannot see whether the queue is empty: %s", error)
            return False

    def _drain(self, threads: Sequence[threading.Thread]) -> None:
        held = self._in_flight.count
        log.info("Stopping: finishing %d messages in flight", held)
        deadline = monotonic() + self._drain_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        if any(thread.is_alive() for thread in threads):
            self._abandon()

    def _abandon(self) -> None:
        """Give back what could not be finished in time and leave: its threads cannot be ended from
        outside.
        """
        messages = self._in_flight.held()
        log.warning("Stopping: released %d messages that took too long", len(messages))
        self._in_flight.stop()
        try:
            self._queue.release(messages)
        except QueueUnavailable as error:
            log.warning("Could not release them, they come back by themselves: %s", error)
        logging.shutdown()
        os._exit(EXIT_OK if self._fatal is None else EXIT_FATAL)

    def _keep_running(self, consume: Callable[[threading.Event], None]) -> None:
        """Run one consumer; start it again after a bug of ours, unless it keeps dying."""
        stopping = self._stop.requested
        deaths: deque[float] = deque(maxlen=MAX_RESTARTS + 1)
        while not stopping.is_set():
            try:
                consume(stopping)
            except FatalError as error:
                self._end(error)
            except Exception as error:
                log.exception("A consumer thread died; starting it again")
                deaths.append(monotonic())
                if len(deaths) > MAX_RESTARTS and deaths[-1] - deaths[0] < RESTART_WINDOW_SECONDS:
                    self._end(FatalError(f"a consumer thread keeps dying: {error}"))
                stopping.wait(1.0)

    def _end(self, error: FatalError) -> None:
        self._fatal = self._fatal or error
        self._stop.requested.set()
