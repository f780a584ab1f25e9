"""Growing randomised delays, for messages that are retried and threads that wait for a dependency.

Both use "equal jitter" of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
Half of the exponential delay is certain, so that a struggling host gets its pause. The other half
is random, so that messages that failed together do not come back together.
"""

import logging
from collections.abc import Callable
from random import random as _random
from threading import Event
from time import monotonic

from product_consumer.errors import Unavailable

log = logging.getLogger(__name__)

LINE_SECONDS = 60.0
"""Time between two log lines about one wait."""

# 2 ** 64 times any base is over any cap; a larger exponent would overflow a float.
_MAX_EXPONENT = 64


def exponential_delay_seconds(
    receive_count: int,
    base_seconds: float = 10.0,
    cap_seconds: float = 900.0,
    random: Callable[[], float] = _random,
) -> float:
    """Return how long a message stays hidden after its delivery number ``receive_count`` failed.

    Between one half and all of ``min(cap_seconds, base_seconds * 2 ** receive_count)``. ``random``
    returns a number in [0, 1). Counts below 1 are taken as 1.
    """
    exponent = min(max(receive_count, 1), _MAX_EXPONENT)
    return _with_jitter(min(cap_seconds, base_seconds * 2.0**exponent), random)


class Backoff:
    """The pauses of one thread between attempts to reach a dependency. Not for two threads."""

    def __init__(
        self,
        first_seconds: float = 1.0,
        cap_seconds: float = 30.0,
        random: Callable[[], float] = _random,
    ) -> None:
        self._first_seconds = first_seconds
        self._cap_seconds = cap_seconds
        self._random = random
        self._waits = 0

    def wait(self, stopping: Event) -> bool:
        """Wait the next, longer delay; return True, at once, when ``stopping`` is set."""
        delay_seconds = min(self._cap_seconds, self._first_seconds * 2.0**self._waits)
        self._waits = min(self._waits + 1, _MAX_EXPONENT)
        return stopping.wait(_with_jitter(delay_seconds, self._random))

    def reset(self) -> None:
        """Start again from the first delay; called when the dependency answered."""
        self._waits = 0


class Stopped(Exception):
    """Raised when a stop is asked for before a start is done."""


def wait_until_available(
    step: Callable[[], object],
    stopping: Event,
    waiting: str,
    clock: Callable[[], float] = monotonic,
    backoff: Backoff | None = None,
) -> None:
    """Repeat a step of a start while it raises ``Unavailable``.

    It logs the first failure after ``waiting``, then one a minute, and the end of the wait. Raises
    ``Stopped`` when asked to stop before the step is done.
    """
    pauses, began_at, told_at = backoff or Backoff(), clock(), -LINE_SECONDS
    while not stopping.is_set():
        try:
            step()
        except Unavailable as error:
            now = clock() - began_at
            if now - told_at >= LINE_SECONDS:
                log.warning("%s: %s", waiting, error)
                told_at = now
            pauses.wait(stopping)
        else:
            if told_at >= 0:
                log.info("Waited to start for %.0f s", clock() - began_at)
            return
    raise Stopped


def _with_jitter(delay_seconds: float, random: Callable[[], float]) -> float:
    return delay_seconds / 2 + random() * delay_seconds / 2
