"""Hold: how long a thread may keep the messages in its hands while it waits for a dependency."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic

HOLD_SECONDS = 3600.0
"""Longest hold. Giving a message back costs it a delivery, so an outage costs one an hour. SQS
itself lets nobody hide a message for longer than 12 hours."""


class Hold:
    """The time until each thread has to give its messages back. Thread-safe.

    ``clock``: monotonic seconds.
    """

    def __init__(
        self, seconds: float = HOLD_SECONDS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._threads = threading.local()

    @contextmanager
    def messages(self, most_seconds: float = inf) -> Iterator[None]:
        """Hold the messages that the calling thread has just received, during the block.

        ``most_seconds``: a limit of their queue.
        """
        self._threads.ends_at = self._clock() + min(self._seconds, most_seconds)
        try:
            yield
        finally:
            self._threads.ends_at = inf

    def remaining_seconds(self) -> float:
        """Return how long the calling thread may still wait: without limit if it holds nothing."""
        ends_at: float = getattr(self._threads, "ends_at", inf)
        return ends_at - self._clock()
