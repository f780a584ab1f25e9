"""A breaker per store: while one is down nobody receives, and what is held waits for it."""

import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TypeVar

from product_consumer.errors import ConfigurationError, Unavailable
from product_consumer.metrics import Metrics
from product_consumer.pipeline.backoff import Backoff

log = logging.getLogger(__name__)

HOLD_SECONDS = 60.0
"""How long messages in hand wait for a part that is down before they are given back."""

T = TypeVar("T")


class Breakers:
    """The breakers of everything that a pipeline's messages need, shared by all its threads.

    ``probes``: for each part by name, a cheap call that raises while the part is down.
    ``metrics`` shows which are down; a thread that waits here beats there.
    """

    def __init__(
        self,
        probes: Mapping[str, Callable[[], object]],
        stopping: threading.Event,
        metrics: Metrics | None = None,
    ) -> None:
        self._beat = metrics.beats.touch if metrics is not None else _nothing
        self._breakers = {
            part: Breaker(part, probe, stopping, self._beat) for part, probe in probes.items()
        }
        if metrics is not None:
            metrics.watch_breakers(self.states)

    def call(self, part: str, action: Callable[[], T]) -> T:
        """Return what ``action`` returns; while its part is down, wait for it.

        Waits at most ``HOLD_SECONDS`` in all and not beyond a stop, then raises what ``action``
        raised: ``Unavailable`` or ``ConfigurationError``. Other errors pass at once.
        """
        breaker = self._breakers[part]
        deadline = monotonic() + HOLD_SECONDS
        while True:
            self._beat()
            try:
                return action()
            except (Unavailable, ConfigurationError) as error:
                breaker.open(error)
                if not breaker.wait_until_closed(deadline - monotonic()):
                    raise

    def wait_until_closed(self) -> bool:
        """Block while a part is down: a message received then could only wait. False on stop."""
        self._beat()
        return all(breaker.wait_until_closed() for breaker in self._breakers.values())

    def open_parts(self) -> list[str]:
        """Names of the parts that are down now."""
        return [part for part, is_open in self.states().items() if is_open]

    def states(self) -> dict[str, bool]:
        """For each part by name, whether it is down now."""
        return {part: breaker.is_open for part, breaker in self._breakers.items()}


class Breaker:
    """Open while its part is down.

    It opens at the first failure that says the part is unavailable, and a probe (never a real
    message) decides when it closes: one thread at a time probes, after 0.5, 1, 2 ... 30 s, the
    others wait. A single dropped connection therefore costs one probe, and an outage costs no
    message a delivery. ``beat`` is called between the steps of a wait.
    """

    def __init__(
        self,
        part: str,
        probe: Callable[[], object],
        stopping: threading.Event,
        beat: Callable[[], None],
    ) -> None:
        self.part = part
        self._beat = beat
        self._probe = probe
        self._stopping = stopping
        self._closed = threading.Event()
        self._closed.set()
        self._prober = threading.Lock()
        self._opened_at = 0.0

    @property
    def is_open(self) -> bool:
        return not self._closed.is_set()

    def open(self, error: Exception) -> None:
        """Note that the part failed; the first of a series is logged."""
        if self._closed.is_set():
            self._closed.clear()
            self._opened_at = monotonic()
            log.warning("%s is down, waiting for it: %s", self.part, error)

    def wait_until_closed(self, limit_seconds: float | None = None) -> bool:
        """Return True once the part answers again; False at the limit or on stop."""
        deadline = None if limit_seconds is None else monotonic() + limit_seconds
        backoff = Backoff(0.5, 30.0)
        while self.is_open and not self._stopping.is_set():
            self._beat()
            if deadline is not None and monotonic() >= deadline:
                return False
            if self._prober.acquire(blocking=False):
                try:
                    if backoff.wait(self._stopping):
                        return False
                    self._try_to_close()
                finally:
                    self._prober.release()
            else:
                self._closed.wait(0.2)
        return not self.is_open

    def _try_to_close(self) -> None:
        try:
            self._probe()
        except Exception as error:
            log.debug("%s is still down: %s", self.part, error)
            return
        log.info("%s is back after %.1f s", self.part, monotonic() - self._opened_at)
        self._closed.set()


def _nothing() -> None:
    """No one asks for signs of life."""
