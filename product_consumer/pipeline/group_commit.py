"""Group commit: calls of several threads to one dependency at the same time become one call.

A transaction or a bulk request costs about the same for ten rows as for a hundred. The first
caller asks at once, in its own thread. Callers that come meanwhile wait; then one of them asks for
all of them. There is no timer and no extra thread. An idle dependency answers a single caller
without delay, and the busier it is, the more a call carries.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from product_consumer.errors import ConfigurationError, FatalError, Unavailable
from product_consumer.pipeline.stages import TURN_SECONDS

MAX_ITEMS = 200
"""Most items in one call: more would gain little and delay every caller for longer."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Result]):
    """The items of one caller, and their results or error once it is done."""

    items: Sequence[Item]
    woken: threading.Event = field(default_factory=threading.Event)
    results: Sequence[Result] | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.results is not None or self.error is not None


class GroupCommit(Generic[Item, Result]):
    """A function that joins the calls of several threads, first come, first served. Thread-safe.

    ``ask`` gets at least one item and returns one result per item, in order. An ``Unavailable``,
    ``ConfigurationError`` or ``FatalError`` that it raises reaches all callers. After any other
    exception it is called for each caller alone, so that the error reaches only its own caller.
    """

    def __init__(self, dependency: str, ask: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self._dependency = dependency
        self._ask = ask
        self._lock = threading.Lock()
        self._is_busy = False
        self._waiting: deque[_Call[Item, Result]] = deque()

    def __call__(self, items: Sequence[Item]) -> Sequence[Result]:
        """Return one result per item, in order; raises what ``ask`` raises.

        Raises ``Unavailable`` when the call has no turn, or no results, after ``TURN_SECONDS``.
        """
        if not items:
            return ()
        call: _Call[Item, Result] = _Call(items)
        with self._lock:
            self._waiting.append(call)
            leads = not self._is_busy
            self._is_busy = True
        if not leads and not self._wait(call):
            raise Unavailable(self._dependency, f"no turn for {TURN_SECONDS:g} s")
        if not call.is_done:
            self._lead()
        return self._result_of(call)

    def _wait(self, call: _Call[Item, Result]) -> bool:
        """Return True when ``call`` is done, or its caller is to lead."""
        if call.woken.wait(TURN_SECONDS):
            return True
        with self._lock:
            if call in self._waiting and not call.woken.is_set():
                self._waiting.remove(call)
        return call.woken.is_set()

    def _lead(self) -> None:
        with self._lock:
            taken = self._take()
        try:
            self._finish(taken)
        finally:
            # Even when this thread is dying: no caller may wait for it.
            with self._lock:
                self._is_busy = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].woken.set()
            for call in taken:
                if not call.is_done:
                    call.error = Unavailable(self._dependency, "the thread that asked it died")
                call.woken.set()

    def _take(self) -> list[_Call[Item, Result]]:
        taken = [self._waiting.popleft()]
        count = len(taken[0].items)
        while self._waiting and count + len(self._waiting[0].items) <= MAX_ITEMS:
            count += len(self._waiting[0].items)
            taken.append(self._waiting.popleft())
        return taken

    def _finish(self, taken: list[_Call[Item, Result]]) -> None:
        try:
            results = self._results_for([item for call in taken for item in call.items])
        except (Unavailable, ConfigurationError, FatalError) as error:
            for call in taken:
                call.error = error
        except Exception as error:
            if len(taken) == 1:
                taken[0].error = error
            else:
                for call in taken:
                    self._finish([call])
        else:
            start = 0
            for call in taken:
                call.results = results[start : start + len(call.items)]
                start += len(call.items)

    def _results_for(self, items: Sequence[Item]) -> Sequence[Result]:
        results = self._ask(items)
        if len(results) != len(items):
            raise RuntimeError(f"{self._dependency}: {len(results)} results for {len(items)} items")
        return results

    def _result_of(self, call: _Call[Item, Result]) -> Sequence[Result]:
        if call.error is not None:
            raise call.error
        if call.results is None:
            raise Unavailable(self._dependency, "no answer")
        return call.results
