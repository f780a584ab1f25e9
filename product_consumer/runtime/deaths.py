"""Recent deaths of a thread or a process: a restart cures a few, never many in a short time."""

from collections import deque
from time import monotonic


class Deaths:
    """The latest deaths of one thread or process. Any thread may add one."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        """More than ``limit`` deaths within ``window_seconds`` are too many."""
        self._limit = limit
        self._window_seconds = window_seconds
        self._times: deque[float] = deque(maxlen=limit + 1)

    def add(self) -> None:
        """Record a death now."""
        self._times.append(monotonic())

    @property
    def count(self) -> int:
        """Deaths within the window that ends with the last one, ``limit`` + 1 at most."""
        # A copy: another thread may add a death meanwhile.
        times = tuple(self._times)
        return sum(times[-1] - time < self._window_seconds for time in times)

    @property
    def are_too_many(self) -> bool:
        """Whether the cause is one that a restart does not cure."""
        return self.count > self._limit
