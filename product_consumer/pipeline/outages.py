"""Outages as operators are told of them: a line when one begins, one a minute, one when it ends."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

from product_consumer.errors import Unavailable

log = logging.getLogger(__name__)

REPORT_SECONDS = 60.0
"""Time between two lines about the same outage."""
CALM_SECONDS = 5.0
"""How long a dependency must answer before its outage is over. A dependency that takes one call in
two would begin and end an outage with every other call."""
MAX_CALM_SECONDS = 60.0
"""The same for a dependency whose last outage has just ended: the time doubles up to this."""


@dataclass(slots=True)
class _Outage:
    began_at: float
    reported_at: float
    calm_seconds: float
    detail: str
    """What the dependency said last."""
    refused: set[object] = field(default_factory=set)
    """The breakers that wait for the dependency; empty once it answers all of them."""
    answered_at: float = 0.0

    def is_over(self, now: float) -> bool:
        return not self.refused and now - self.answered_at >= self.calm_seconds


@dataclass(frozen=True, slots=True)
class _Ended:
    at: float
    calm_seconds: float


class Outages:
    """The dependencies that are down, as logs, metrics and health pages tell it. Thread-safe.

    An outage begins at the first refusal and ends once the dependency has answered for a while.
    Breakers report here; ``report`` is called about once a second. ``clock``: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._current: dict[str, _Outage | None] = {}
        self._ended: dict[str, _Ended] = {}

    def watch(self, dependency: str) -> None:
        """Add a dependency to ``states`` before it ever fails."""
        with self._lock:
            self._current.setdefault(dependency, None)

    def refused(self, dependency: str, breaker: object, error: Exception) -> None:
        """Report a refused call; ``breaker`` is what waits for the dependency now."""
        now, detail = self._clock(), _detail(error)
        with self._lock:
            outage = self._current.get(dependency)
            is_new = outage is None
            if outage is None:
                outage = _Outage(now, now, self._calm_seconds(dependency, now), detail)
                self._current[dependency] = outage
            outage.detail = detail
            outage.refused.add(breaker)
        if is_new:
            log.warning("%s is down, waiting for it: %s", dependency, detail)

    def answered(self, dependency: str, breaker: object) -> None:
        """Report that the dependency took all calls for which ``breaker`` waited."""
        with self._lock:
            outage = self._current.get(dependency)
            if outage is not None:
                outage.refused.discard(breaker)
                outage.answered_at = self._clock()

    def states(self) -> dict[str, bool]:
        """Return for each dependency by name whether it is down."""
        with self._lock:
            return {name: outage is not None for name, outage in self._current.items()}

    def report(self) -> None:
        """Log what is due: the outages that are over, and those that still last."""
        now = self._clock()
        lines: list[tuple[int, str, tuple[object, ...]]] = []
        with self._lock:
            for dependency, outage in self._current.items():
                if outage is None:
                    continue
                if outage.is_over(now):
                    self._current[dependency] = None
                    self._ended[dependency] = _Ended(now, outage.calm_seconds)
                    over = (dependency, outage.answered_at - outage.began_at)
                    lines.append((logging.INFO, "%s is back after %.1f s", over))
                elif now - outage.reported_at >= REPORT_SECONDS:
                    outage.reported_at = now
                    lasting = (dependency, now - outage.began_at, outage.detail)
                    lines.append((logging.WARNING, "%s is still down after %.0f s: %s", lasting))
        for level, text, values in lines:
            log.log(level, text, *values)

    def _calm_seconds(self, dependency: str, now: float) -> float:
        ended = self._ended.get(dependency)
        if ended is None or now - ended.at > MAX_CALM_SECONDS:
            return CALM_SECONDS
        return min(2 * ended.calm_seconds, MAX_CALM_SECONDS)


def _detail(error: Exception) -> str:
    """Return what an error says, without the name of the dependency, which the line begins with."""
    return error.detail if isinstance(error, Unavailable) else str(error)
