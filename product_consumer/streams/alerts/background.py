"""Alerts to a place that may be slow: a bounded queue and one thread, so that nothing waits."""

import logging
import threading
from collections.abc import Callable
from queue import Empty, Full, Queue
from time import monotonic

from product_consumer.pipeline.backoff import Backoff
from product_consumer.streams.alerts.alert import Alert
from product_consumer.streams.alerts.webhook import AlertFailed

log = logging.getLogger(__name__)

CAPACITY = 1000
"""Alerts that wait; further ones are dropped and counted."""
ATTEMPTS = 5
STOP_SECONDS = 5.0
_WAIT_SECONDS = 0.2


class BackgroundAlerts:
    """Sends alerts one after another. Any thread may call ``put``.

    An alert is tried up to ``ATTEMPTS`` times with growing pauses. After one that failed, each of
    the next has a single attempt, until one succeeds. ``post``: sends the body of one alert; may
    raise ``AlertFailed``. ``place``: its name in log lines. ``count``: called with ``sent``,
    ``failed`` or ``dropped``, and a number.
    """

    def __init__(
        self,
        post: Callable[[str], None],
        place: str,
        count: Callable[[str, int], None],
        *,
        capacity: int = CAPACITY,
        stop_seconds: float = STOP_SECONDS,
        first_pause_seconds: float = 1.0,
    ) -> None:
        self._post = post
        self._place = place
        self._count = count
        self._stop_seconds = stop_seconds
        self._first_pause_seconds = first_pause_seconds
        self._waiting: Queue[Alert] = Queue(capacity)
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._is_failing = False
        self._is_full = False
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, alert: Alert) -> None:
        """Queue an alert; it is dropped where the queue is full."""
        try:
            self._waiting.put_nowait(alert)
        except Full:
            if not self._is_full:
                log.warning("Alerts are dropped: %d wait for %s", CAPACITY, self._place)
            self._is_full = True
            self._count("dropped", 1)

    def close(self) -> None:
        """Send what waits, for some seconds at most; what is left is dropped."""
        self._deadline = monotonic() + self._stop_seconds
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._stop_seconds + 2.0)
        left = self._waiting.qsize()
        if left:
            log.warning("%d alerts were not sent to %s before the stop", left, self._place)
            self._count("dropped", left)

    def is_over(self) -> bool:
        """Whether the time for the last alerts is over; a request in progress ends then."""
        return monotonic() > self._deadline

    def _run(self) -> None:
        while not self.is_over():
            try:
                alert = self._waiting.get(timeout=_WAIT_SECONDS)
            except Empty:
                if self._stopping.is_set():
                    return
                continue
            self._is_full = False
            self._send(alert)

    def _send(self, alert: Alert) -> None:
        pauses = Backoff(self._first_pause_seconds)
        attempts = 1 if self._is_failing else ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                self._post(alert.body)
            except AlertFailed as error:
                is_last = attempt == attempts or not error.is_passing
                # A stop leaves no time for pauses.
                if is_last or pauses.wait(self._stopping):
                    self._fail(error.reason)
                    return
            except Exception:
                log.exception("An alert could not be sent to %s", self._place)
                self._count("failed", 1)
                return
            else:
                self._succeed()
                return

    def _fail(self, reason: str) -> None:
        if not self._is_failing:
            log.warning("Alerts do not reach %s: %s", self._place, reason)
        self._is_failing = True
        self._count("failed", 1)

    def _succeed(self) -> None:
        if self._is_failing:
            log.info("Alerts reach %s again", self._place)
        self._is_failing = False
        self._count("sent", 1)
