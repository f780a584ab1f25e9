"""One thread runs batches: all items that wait when the device becomes free are the next batch.

There is no timer. While the device runs one batch, callers fill the queue for the next, so batches
grow with load by themselves: an idle device starts a single item at once, a busy device finds many
waiting. A timer would delay every item whenever there are fewer callers than a full batch needs. In
a simulation of 10 callers with 10 items each, 20 ms of waiting cost a quarter of the throughput. No
length of timer gained any.

A device with a queue of its own can be kept two batches deep. It gets the next batch while it still
runs the last, so that it never waits for Python between the two.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from product_consumer.errors import FatalError, Unavailable

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Results: TypeAlias = Sequence[Result | Exception]
Wait: TypeAlias = Callable[[], Results[Result]]
"""Waits for a batch that the device has begun and returns its results."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    alone: bool = False
    future: "Future[Result]" = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class _Begun(Generic[Item, Result]):
    entries: list[_Entry[Item, Result]]
    outcome: Results[Result] | Wait[Result] | None
    """None: it failed, and can be halved."""


class Batcher(Generic[Item, Result]):
    """Collects the items of many callers into batches, in order, and runs them in its own thread.

    Any thread may call any method.

    ``run_batch`` gets 1 to ``max_batch`` items and returns one result per item, in order. An
    exception in place of a result is that item's error. When ``run_batch`` raises, its batch is
    halved until a poisonous item fails alone; other batches are not affected. When it raises
    ``FatalError``, or the thread dies, all waiting and all later items fail with ``FatalError``.

    ``run_batch`` may only begin the batch and return a function that waits for the results and may
    raise as well. At most one more batch is begun before that function is called, in the same
    thread.

    ``max_waiting``: callers are held back while this many items wait. The items of one call enter
    together, so the queue may exceed this by the rest of one call.
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[Item]], Results[Result] | Wait[Result]],
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
        # A daemon: a device that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """True once no batch can run any more; the process should end."""
        return self._failure is not None

    def submit(
        self, items: Sequence[Item], *, timeout_seconds: float, alone: bool = False
    ) -> "list[Future[Result]]":
        """Hand over items, in order, and return a future for each; waits for room in the queue.

        With ``alone`` each item is a batch of its own, and no other batch is begun beside it.
        Raises ``FatalError`` when the batcher is broken. Raises ``Unavailable`` when it is closed
        or its queue stayed full for ``timeout_seconds``. Then no item was handed over.
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
        """Refuse new items and finish waiting ones; those not begun in time are ``Unavailable``.

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
            self._run_until_closed()
        except BaseException as error:
            # Whatever ended this thread, no caller may wait for it in vain.
            log.critical("The %s thread ended: %s: %s", self._name, type(error).__name__, error)
            self._break(error)

    def _run_until_closed(self) -> None:
        ahead: _Begun[Item, Result] | None = None
        while True:
            entries = self._take(ahead)
            if ahead is None and not entries:
                return
            begun = self._begin(entries) if entries else None
            if ahead is not None:
                self._finish(ahead)
            if begun is not None and not callable(begun.outcome):
                self._finish(begun)
                begun = None
            ahead = begun

    def _take(self, ahead: _Begun[Item, Result] | None) -> list[_Entry[Item, Result]]:
        """Return the entries of the next batch.

        Without a batch ``ahead``, waits for items; an empty list then means closed and all done.
        With a batch ahead, does not wait; an empty list then means: fetch its results first.
        """
        while True:
            with self._lock:
                if ahead is None:
                    self._work.wait_for(lambda: self._waiting or self._closed)
                elif not self._may_begin_beside(ahead):
                    return []
                taken = self._take_together()
                entries = [e for e in taken if e.future.set_running_or_notify_cancel()]
                self._running = [*(ahead.entries if ahead else ()), *entries]
                self._room.notify_all()
                if entries or not taken:
                    return entries

    def _may_begin_beside(self, ahead: _Begun[Item, Result]) -> bool:
        return bool(self._waiting) and not (ahead.entries[0].alone or self._waiting[0].alone)

    def _take_together(self) -> list[_Entry[Item, Result]]:
        taken: list[_Entry[Item, Result]] = []
        while self._waiting and len(taken) < self._max_batch:
            if taken and (taken[0].alone or self._waiting[0].alone):
                break
            taken.append(self._waiting.popleft())
        return taken

    def _begin(self, entries: list[_Entry[Item, Result]]) -> _Begun[Item, Result]:
        items = [entry.item for entry in entries]
        return _Begun(entries, self._attempt(entries, lambda: self._run_batch(items)))

    def _finish(self, begun: _Begun[Item, Result]) -> None:
        entries, outcome = begun.entries, begun.outcome
        # The device memory of a failed batch must be free before its halves run.
        begun.outcome = None
        if callable(outcome):
            outcome = self._attempt(entries, outcome)
        if outcome is None:
            middle = len(entries) // 2
            self._finish(self._begin(entries[:middle]))
            self._finish(self._begin(entries[middle:]))
        elif callable(outcome):
            raise TypeError("waiting for a batch gave another function instead of results")
        else:
            _deliver(entries, outcome)

    def _attempt(
        self,
        entries: list[_Entry[Item, Result]],
        attempt: Callable[[], Results[Result] | Wait[Result]],
    ) -> Results[Result] | Wait[Result] | None:
        """Return the outcome of ``attempt``, or None when the batch failed and can be halved.

        The exception is dropped before the halves run: its traceback would keep the failed pass's
        memory alive.
        """
        try:
            outcome = attempt()
            if not callable(outcome) and len(outcome) != len(entries):
                raise RuntimeError(f"{len(outcome)} results for {len(entries)} items")
        except FatalError:
            raise
        except Exception as error:
            if len(entries) == 1:
                return [error]
            kind = type(error).__name__
            log.warning("A batch of %d failed, halving it: %s: %s", len(entries), kind, error)
            return None
        return outcome

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


def _deliver(entries: list[_Entry[Item, Result]], results: Results[Result]) -> None:
    # Last item first: a caller waits for its first item, so it wakes up once, not once per item.
    for entry, result in zip(reversed(entries), reversed(results), strict=True):
        if isinstance(result, Exception):
            entry.future.set_exception(result)
        else:
            entry.future.set_result(result)


def _fail(entry: "_Entry[Item, Result]", error: Exception) -> None:
    future = entry.future
    if not future.done() and (future.running() or future.set_running_or_notify_cancel()):
        future.set_exception(error)


def _copy(failure: FatalError) -> FatalError:
    """Return a new instance: an exception raised in two threads mixes up their tracebacks."""
    copied = type(failure)(*failure.args)
    copied.__cause__ = failure
    return copied
