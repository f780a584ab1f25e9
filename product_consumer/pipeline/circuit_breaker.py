"""A breaker per dependency: while it is down, nobody receives and messages in hand wait for it."""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import ParamSpec, TypeVar

from product_consumer.errors import ConfigurationError, Unavailable
from product_consumer.pipeline.backoff import Backoff
from product_consumer.pipeline.context import ProcessContext

log = logging.getLogger(__name__)

HOLD_SECONDS = 60.0
"""How long messages in hand wait for a dependency that is down before they are given back."""

P = ParamSpec("P")
T = TypeVar("T")


class Breakers:
    """The breakers of all dependencies of a pipeline. Thread-safe.

    ``probes``: for each dependency by name, a cheap call that raises while the dependency is down.
    The metrics of ``context`` report which are down; a thread that waits here makes progress.
    """

    def __init__(self, probes: Mapping[str, Callable[[], object]], context: ProcessContext) -> None:
        self._touch = context.stages.touch
        self._breakers = {
            dependency: Breaker(dependency, probe, context.stopping, self._touch)
            for dependency, probe in probes.items()
        }
        context.metrics.watch_breakers(self.states)

    def call(self, dependency: str, action: Callable[[], T]) -> T:
        """Return what ``action`` returns; while its dependency is down, wait for it.

        Waits at most ``HOLD_SECONDS`` in all and not beyond a stop. Then raises the last error of
        ``action``: ``Unavailable`` or ``ConfigurationError``. Other errors pass at once.
        """
        breaker = self._breakers[dependency]
        deadline = monotonic() + HOLD_SECONDS
        while True:
            self._touch()
            try:
                return action()
            except (Unavailable, ConfigurationError) as error:
                breaker.open(error)
                if not breaker.wait_until_closed(deadline - monotonic()):
                    raise

    def guarded(self, dependency: str, action: Callable[P, T]) -> Callable[P, T]:
        """Return ``action`` as a function that waits as ``call`` does."""

        def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.call(dependency, partial(action, *args, **kwargs))

        return waiting

    def wait_until_closed(self) -> bool:
        """Block while a dependency is down: a message received then could only wait.

        Returns False on stop.
        """
        self._touch()
        return all(breaker.wait_until_closed() for breaker in self._breakers.values())

    def states(self) -> dict[str, bool]:
        """Return for each dependency by name whether it is down now."""
        return {name: breaker.is_open for name, breaker in self._breakers.items()}


class Breaker:
    """A circuit breaker: open while its dependency is down. Thread-safe.

    It opens at the first failure that says the dependency is unavailable. A probe, never a real
    message, decides when it closes: one thread at a time probes, after 0.5, 1, 2 ... 30 s, while
    the others wait. So a dropped connection costs one probe, and an outage costs no message a
    delivery. ``touch`` is called between the steps of a wait.
    """

    def __init__(
        self,
        dependency: str,
        probe: Callable[[], object],
        stopping: threading.Event,
        touch: Callable[[], None],
    ) -> None:
        self.dependency = dependency
        self._touch = touch
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
        """Open the breaker after a failure; the first failure of an outage is logged."""
        if self._closed.is_set():
            self._closed.clear()
            self._opened_at = monotonic()
            log.warning("%s is down, waiting for it: %s", self.dependency, error)

    def wait_until_closed(self, limit_seconds: float | None = None) -> bool:
        """Return True once the dependency answers again; False at the limit or on stop."""
        deadline = None if limit_seconds is None else monotonic() + limit_seconds
        backoff = Backoff(0.5, 30.0)
        while self.is_open and not self._stopping.is_set():
            self._touch()
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
            log.debug("%s is still down: %s", self.dependency, error)
            return
        log.info("%s is back after %.1f s", self.dependency, monotonic() - self._opened_at)
        self._closed.set()
