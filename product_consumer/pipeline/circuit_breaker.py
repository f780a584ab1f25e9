"""A breaker per dependency: while it is down, nobody receives and messages in hand wait for it.

A dependency may answer reads and refuse writes. So after a refused call only the same kind of call
shows that the dependency is back: the calls in hand are tried again, one at a time, after growing
pauses. Where no thread holds such a call any more, a probe is tried instead, which does what the
work needs. An outage therefore costs no message a delivery until its hold ends (``hold.py``).
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from time import monotonic
from typing import ParamSpec, TypeVar

from product_consumer.errors import ConfigurationError, Unavailable
from product_consumer.pipeline.backoff import exponential_delay_seconds
from product_consumer.pipeline.context import ProcessContext

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 15.0
"""Shortest pause before the first trial of an outage, and the longest pause; each failed trial
doubles it."""
SETTLED_SECONDS = 30.0
"""A dependency that fails again sooner is in the same trouble: its pauses go on where they were."""
_POLL_SECONDS = 0.2

P = ParamSpec("P")
T = TypeVar("T")


class Breakers:
    """The breakers of all dependencies of a pipeline. Thread-safe.

    ``probes``: for each dependency by name, a call that raises while the dependency would refuse
    the work. A thread that waits here makes progress, as ``context`` sees it.
    """

    def __init__(self, probes: Mapping[str, Callable[[], object]], context: ProcessContext) -> None:
        self.touch = context.stages.touch
        self._breakers = {
            dependency: Breaker(dependency, probe, context) for dependency, probe in probes.items()
        }

    def call(self, dependency: str, operation: str, action: Callable[[], T]) -> T:
        """Return what ``action`` returns; while its dependency is down, wait for it.

        ``operation``: the kind of call, such as ``read`` or ``write``. Waits until the hold of the
        calling thread ends, and not beyond a stop. Then raises the last error of ``action``:
        ``Unavailable`` or ``ConfigurationError``. Other errors pass at once.
        """
        self.touch()
        return self._breakers[dependency].call(operation, action)

    def guarded(self, dependency: str, operation: str, action: Callable[P, T]) -> Callable[P, T]:
        """Return ``action`` as a function that waits as ``call`` does."""

        def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.call(dependency, operation, partial(action, *args, **kwargs))

        return waiting

    def wait_until_closed(self) -> bool:
        """Block while a dependency is down: a message received then could only wait.

        Returns False on stop.
        """
        self.touch()
        return all(breaker.wait_until_closed() for breaker in self._breakers.values())

    def states(self) -> dict[str, bool]:
        """Return for each dependency by name whether it is down now."""
        return {name: breaker.is_open for name, breaker in self._breakers.items()}


class _Turn(Enum):
    """What a thread may do next."""

    CALL = auto()
    """The breaker is closed."""
    TRY = auto()
    """It is open, and this thread's own call is tried."""
    PROBE = auto()
    """It is open, and no thread has such a call in hand."""
    END = auto()
    """The hold or the process ends."""


@dataclass(slots=True, eq=False)
class _Caller:
    """A thread with a call in hand."""

    operation: str
    error: Exception | None = None
    failures: int = 0
    successes_seen: int = 0
    """Successes of the same operation, by any thread, when this call last failed."""
    pauses_until: float = 0.0
    """Set where only this call fails: its thread waits alone."""


class Breaker:
    """A circuit breaker: open while its dependency refuses an operation. Thread-safe.

    It opens at the first failure that says that the dependency is unavailable. It is closed once
    each refused operation has succeeded in a trial. So a dropped connection costs one trial.

    One call may fail while others of its kind succeed. That is no outage: its thread tries again
    alone, and the others go on.
    """

    def __init__(
        self, dependency: str, probe: Callable[[], object], context: ProcessContext
    ) -> None:
        self.dependency = dependency
        self._probe = probe
        self._stopping = context.stopping
        self._hold = context.hold
        self._outages = context.outages
        self._touch = context.stages.touch
        self._changed = threading.Condition()
        self._refused: set[str] = set()
        self._callers: deque[_Caller] = deque()
        self._successes: Counter[str] = Counter()
        self._is_trying = False
        self._next_trial_at = 0.0
        self._failed_trials = 0
        self._closed_at = -SETTLED_SECONDS
        self._last_error: Exception = Unavailable(dependency, "not reached yet")
        context.outages.watch(dependency)

    @property
    def is_open(self) -> bool:
        return bool(self._refused)

    def call(self, operation: str, action: Callable[[], T]) -> T:
        """Return what ``action`` returns; waits and raises as ``Breakers.call``."""
        caller = _Caller(operation)
        while True:
            turn = self._wait_for_turn(caller)
            if turn is _Turn.PROBE:
                self._try_probe()
                continue
            if turn is _Turn.END and (caller.error is not None or not self._stopping.is_set()):
                raise caller.error or self._last_error
            # Even on a stop, each call is tried once.
            try:
                result = action()
            except (Unavailable, ConfigurationError) as error:
                self._fail(caller, turn, error)
                if turn is _Turn.END:
                    raise
            except BaseException:
                self._end_trial(turn)
                raise
            else:
                self._succeed(operation, turn)
                return result

    def wait_until_closed(self) -> bool:
        """Return True once the dependency takes every operation again; False on stop."""
        while self.is_open:
            turn = self._wait_for_turn(None)
            if turn is _Turn.END:
                return False
            if turn is _Turn.PROBE:
                self._try_probe()
        return True

    def _wait_for_turn(self, caller: _Caller | None) -> _Turn:
        with self._changed:
            if caller is not None:
                self._callers.append(caller)
            try:
                while (turn := self._grant(caller)) is None:
                    self._touch()
                    self._outages.report()
                    self._changed.wait(_POLL_SECONDS)
                return turn
            finally:
                if caller is not None:
                    self._callers.remove(caller)

    def _grant(self, caller: _Caller | None) -> _Turn | None:
        """Return what the thread may do now; None while it has to wait."""
        now = monotonic()
        if not self._refused and (caller is None or caller.pauses_until <= now):
            return _Turn.CALL
        if self._stopping.is_set() or self._hold.remaining_seconds() <= 0:
            return _Turn.END
        if not self._refused or self._is_trying or now < self._next_trial_at:
            return None
        next_caller = next(filter(self._is_refused, self._callers), None)
        if next_caller is not None and next_caller is not caller:
            return None
        self._is_trying = True
        return _Turn.PROBE if next_caller is None else _Turn.TRY

    def _is_refused(self, caller: _Caller) -> bool:
        return caller.operation in self._refused and caller.pauses_until <= monotonic()

    def _try_probe(self) -> None:
        try:
            self._probe()
        except Exception as error:
            self._end_trial(_Turn.PROBE, error)
        else:
            with self._changed:
                self._is_trying = False
                self._close(self._refused)

    def _fail(self, caller: _Caller, turn: _Turn, error: Exception) -> None:
        caller.error = error
        caller.failures += 1
        if turn is _Turn.TRY:
            self._end_trial(turn, error)
        elif not self._fails_alone(caller, error):
            self._open(caller.operation, error)
        caller.successes_seen = self._successes[caller.operation]

    def _fails_alone(self, caller: _Caller, error: Exception) -> bool:
        """Whether others succeeded between two failures of this call; its thread pauses then."""
        with self._changed:
            others_succeed = self._successes[caller.operation] > caller.successes_seen
            if caller.failures == 1 or not others_succeed:
                return False
            is_known = caller.pauses_until > 0
            caller.pauses_until = monotonic() + _pause_seconds(caller.failures)
        if not is_known:
            log.warning(
                "%s refuses one %s and takes others, trying again: %s",
                *(self.dependency, caller.operation, error),
            )
        return True

    def _open(self, operation: str, error: Exception) -> None:
        with self._changed:
            if not self._refused and monotonic() - self._closed_at > SETTLED_SECONDS:
                self._failed_trials = 0
            if operation not in self._refused:
                self._next_trial_at = monotonic() + _pause_seconds(self._failed_trials)
            self._refused.add(operation)
            self._last_error = error
            self._outages.refused(self.dependency, self, error)

    def _end_trial(self, turn: _Turn, error: Exception | None = None) -> None:
        """End a trial that did not succeed; ``error``: None where it says nothing of an outage."""
        if turn not in (_Turn.TRY, _Turn.PROBE):
            return
        with self._changed:
            self._is_trying = False
            self._failed_trials += 1
            self._next_trial_at = monotonic() + _pause_seconds(self._failed_trials)
            self._last_error = error or self._last_error
            self._outages.refused(self.dependency, self, self._last_error)

    def _succeed(self, operation: str, turn: _Turn) -> None:
        with self._changed:
            self._successes[operation] += 1
            if turn is _Turn.TRY:
                self._is_trying = False
                self._close({operation})

    def _close(self, operations: set[str]) -> None:
        """Take operations from the refused ones; the breaker closes with the last."""
        self._refused = self._refused - operations
        self._next_trial_at = monotonic()
        if not self._refused:
            self._failed_trials //= 2
            self._closed_at = monotonic()
            self._outages.answered(self.dependency, self)
        self._changed.notify_all()


def _pause_seconds(failures: int) -> float:
    return exponential_delay_seconds(failures, FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
