"""One thread, one batch at a time: what waits when the device is free is the next batch.

There is no timer. While the device is busy with one batch, callers fill the queue for the next,
so batches grow with load by themselves: an idle device starts on a single item at once, a busy
one finds many waiting. A timer would only add its own delay to every item whenever there are
fewer callers than a full batch needs: in a simulation of 10 callers handing over 10 items each,
20 ms of waiting cost a quarter of the throughput, and no length of timer gained any.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from product_consumer.errors import FatalError, Unavailable

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    alone: bool = False
    future: "Future[Result]" = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """Runs ``run_batch`` in a thread of its own on what many callers hand over, in order.

    ``run_batch`` gets 1 to ``max_batch`` items and returns one result per item, in order; an
    exception in a result's place is that item's. When it raises, only its own items are touched:
    the batch is halved until a poisonous item fails alone. When it raises ``FatalError``, or the
    thread dies, everything that waits and everything handed over later fails with ``FatalError``.

    ``max_waiting``: callers are held back while this many items wait; one caller's items enter
    together, so the queue may exceed it by the rest of one hand-over.
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        name: str,
        max_batch: int,
        max_waiting: int,
    ) -> None:
        self._run_batch = run_batch
        self._name = name
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._running: list[_Entry[Item, Result]] = []
        self._failure: FatalError | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        # A daemon, so that a device which never answers cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """True once nothing can be run any more; the process should end."""
        return self._failure is not None

    def submit(
        self, items: Sequence[Item], *, timeout_seconds: float, alone: bool = False
    ) -> "list[Future[Result]]":
        """Hand over items, in order, and return a future for each; waits for room in the queue.

        With ``alone`` each of them is a batch of its own.
        Raises ``FatalError`` when the batcher is broken, ``Unavailable`` when it is closed or had
        no room for ``timeout_seconds``; nothing is handed over then.
        """
        entries: list[_Entry[Item, Result]] = [_Entry(item, alone) for item in items]
        with self._lock:
            has_room = self._room.wait_for(self._has_room_or_refuses, timeout_seconds)
            self._raise_if_refusing()
            if not has_room:
                raise Unavailable(self._name, f"no room in its queue for {timeout_seconds:g} s")
            self._waiting.extend(entries)
            self._work.notify()
        return [entry.future for entry in entries]

    def close(self, timeout_seconds: float) -> None:
        """Refuse new items and finish what waits; what has not begun in time is ``Unavailable``.

        Returns within ``timeout_seconds``, even if the running batch never ends.
        """
        with self._lock:
            self._closed = True
            self._work.notify_all()
            self._room.notify_all()
        self._thread.join(timeout_seconds)
        with self._lock:
            abandoned = list(self._waiting)
            self._waiting.clear()
        for entry in abandoned:
            _fail(entry, Unavailable(self._name, "closed before the item's turn came"))

    def _has_room_or_refuses(self) -> bool:
        return self._closed or self.failed or len(self._waiting) < self._max_waiting

    def _raise_if_refusing(self) -> None:
        if self._failure is not None:
            raise _copy(self._failure)
        if self._closed:
            raise Unavailable(self._name, "closed")

    def _run(self) -> None:
        try:
            while batch := self._take():
                self._finish(batch)
        except BaseException as error:
            # Whatever ended this thread, no caller may be left waiting for it.
            log.critical("The %s thread ended: %s: %s", self._name, type(error).__name__, error)
            self._break(error)

    def _take(self) -> list[_Entry[Item, Result]]:
        """Wait for work; an empty list means closed and nothing left to do."""
        while True:
            with self._lock:
                self._work.wait_for(lambda: self._waiting or self._closed)
                taken = self._take_together()
                self._running = [e for e in taken if e.future.set_running_or_notify_cancel()]
                self._room.notify_all()
                if self._running or not taken:
                    return self._running

    def _take_together(self) -> list[_Entry[Item, Result]]:
        taken: list[_Entry[Item, Result]] = []
        while self._waiting and len(taken) < self._max_batch:
            if taken and (taken[0].alone or self._waiting[0].alone):
                break
            taken.append(self._waiting.popleft())
        return taken

    def _finish(self, entries: list[_Entry[Item, Result]]) -> None:
        results = self._attempt(entries)
        if results is None:
            middle = len(entries) // 2
            self._finish(entries[:middle])
            self._finish(entries[middle:])
            return
        for entry, result in zip(entries, results, strict=True):
            if isinstance(result, Exception):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(result)

    def _attempt(self, entries: list[_Entry[Item, Result]]) -> Sequence[Result | Exception] | None:
        """Return the results, or None when the batch failed and can be halved.

        The exception is dropped before the halves run: its traceback would keep the failed pass's
        memory alive.
        """
        try:
            results = self._run_batch([entry.item for entry in entries])
            if len(results) != len(entries):
                raise RuntimeError(f"{len(results)} results for {len(entries)} items")
        except FatalError:
            raise
        except Exception as error:
            if len(entries) == 1:
                return [error]
            kind = type(error).__name__
            log.warning("A batch of %d failed, halving it: %s: %s", len(entries), kind, error)
            return None
        return results

    def _break(self, error: BaseException) -> None:
        failure = error if isinstance(error, FatalError) else None
        if failure is None:
            failure = FatalError(f"the {self._name} thread died of {type(error).__name__}: {error}")
            failure.__cause__ = error
        with self._lock:
            self._failure = failure
            lost = [*self._running, *self._waiting]
            self._waiting.clear()
            self._room.notify_all()
        for entry in lost:
            _fail(entry, _copy(failure))


def _fail(entry: "_Entry[Item, Result]", error: Exception) -> None:
    future = entry.future
    if not future.done() and (future.running() or future.set_running_or_notify_cancel()):
        future.set_exception(error)


def _copy(failure: FatalError) -> FatalError:
    """One instance per raise: an exception raised in two threads mixes up their tracebacks."""
    copied = FatalError(*failure.args)
    copied.__cause__ = failure
    return copied
