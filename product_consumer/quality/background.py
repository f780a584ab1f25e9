"""Background work that nothing waits for: a bounded queue, one thread, at most half of its time."""

import logging
import threading
from collections.abc import Callable
from queue import Empty, Full, Queue
from time import monotonic
from typing import Generic, TypeVar

from product_consumer.errors import ProductConsumerError

log = logging.getLogger(__name__)

T = TypeVar("T")

_WAIT_SECONDS = 0.2
"""How soon a stop is noticed while the queue is empty."""
_FAILURE_PAUSE_SECONDS = 5.0
_GATHER_SECONDS = 0.2
"""Pause after a batch that was not full: small batches cost the most per item."""


class Background(Generic[T]):
    """A queue of items that one thread hands to ``handle`` in batches. Any thread may ``put``.

    ``handle`` may raise anything: its batch is lost, and ``lost`` is called with the number of its
    items. Work takes at most half of the time, so that the consumer threads keep the rest.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[list[T]], None],
        lost: Callable[[int], None],
        *,
        capacity: int,
        batch_size: int,
    ) -> None:
        self._handle = handle
        self._lost = lost
        self._batch_size = batch_size
        self._waiting: Queue[T] = Queue(capacity)
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; call once."""
        self._thread.start()

    def put(self, item: T) -> bool:
        """Queue an item and return at once; False when the queue is full or stopping."""
        if self._stopping.is_set():
            return False
        try:
            self._waiting.put_nowait(item)
        except Full:
            return False
        return True

    def stop(self, seconds: float) -> None:
        """Let the thread finish the queue, for so many seconds at most; the rest is lost."""
        self._deadline = monotonic() + seconds
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        left = self._waiting.qsize()
        if left:
            self._lost(left)

    def _run(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                if self._stopping.is_set():
                    return
                continue
            if monotonic() > self._deadline:
                self._lost(len(batch))
                return
            self._work(batch)

    def _work(self, batch: list[T]) -> None:
        started = monotonic()
        try:
            self._handle(batch)
        except ProductConsumerError as error:
            log.warning("%s: %d checks were lost: %s", self._thread.name, len(batch), error)
            self._lost(len(batch))
            self._stopping.wait(_FAILURE_PAUSE_SECONDS)
        except Exception:
            log.exception("%s: %d checks were lost", self._thread.name, len(batch))
            self._lost(len(batch))
            self._stopping.wait(_FAILURE_PAUSE_SECONDS)
        else:
            pause = monotonic() - started
            if len(batch) < self._batch_size:
                pause = max(pause, _GATHER_SECONDS)
            self._stopping.wait(pause)

    def _take(self) -> list[T]:
        batch: list[T] = []
        try:
            batch.append(self._waiting.get(timeout=_WAIT_SECONDS))
            while len(batch) < self._batch_size:
                batch.append(self._waiting.get_nowait())
        except Empty:
            pass
        return batch
