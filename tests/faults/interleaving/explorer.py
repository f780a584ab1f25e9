"""Tries every order in which the steps of a few processes can happen, with crashes and late writes.

A state is the contents of the ledger and the stores, the processes with their results, the writes
on their way to Milvus, and the events that may still happen. Equal states are visited once. The
real ledger performs each step on the real database, once for each of its states, and the result is
kept.

Faults: any process may die before any of its steps; its message then comes again while deliveries
are left. A write to Milvus may be on its way when its process dies or times out; it lands at any
later step, or never. Time passes the horizon only when nothing runs and nothing is on its way: the
horizon promises that.
"""

import gc
import json
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from product_consumer.errors import StoreUnavailable
from product_consumer.ledger.tables import products
from tests.faults.interleaving.rig import Dump, Rig, Rows
from tests.faults.interleaving.runner import (
    STORES,
    Delivery,
    Result,
    Runner,
    Step,
    Sweep,
    Task,
    freeze,
)

T = TypeVar("T")

COLUMNS = [column.name for column in products.columns]
MAX_SWEEPS_TO_REPAIR = 3


class Process(NamedTuple):
    """A process that has begun; ``number`` stands for its task and results."""

    number: int
    is_undisturbed: bool
    """Nothing else has run, and nothing was on its way, since it began."""


class State(NamedTuple):
    """Everything that decides what can happen next; contents are numbers of equal values."""

    ledger: int
    stores: tuple[int, ...]
    late: tuple[int, ...]
    deliveries_left: tuple[int, ...]
    is_acknowledged: tuple[bool, ...]
    processes: tuple[Process, ...]
    phase: int
    late_left: int
    sweeps_left: int
    is_faultless: bool


@dataclass(frozen=True)
class Limits:
    """The most of each event: deliveries of each message, late writes, sweeps, and passings of the
    horizon before the end.
    """

    deliveries: tuple[int, ...] = (2, 2)
    late: int = 1
    sweeps: int = 1
    phases: int = 1


@dataclass(frozen=True)
class Report:
    """The result of an exploration.

    ``violation``: the promise that is broken at the end of ``path``, one of the shortest; or None.
    """

    states: int
    violation: str | None
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.violation} after:\n  " + "\n  ".join(self.path)


class Numbers(Generic[T]):
    """Gives equal values the same number."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self.values: list[T] = []

    def of(self, value: T, key: Hashable = None) -> int:
        key = freeze(value) if key is None else key
        number = self._numbers.setdefault(key, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


class Violation(Exception):
    """Raised at a state that breaks a promise."""


class Explorer:
    """Visits all states that deliveries of the runner's messages, of one product, can lead to."""

    def __init__(self, rig: Rig, runner: Runner, limits: Limits) -> None:
        self._rig = rig
        self._runner = runner
        self._limits = limits
        # Of the last message that is no deletion: the messages are in the order of versions.
        bodies = [json.loads(message.body) for message in runner.messages]
        self._newest_name = [body["name"] for body in bodies if "name" in body][-1]
        self._dumps: Numbers[Dump] = Numbers()
        self._contents: Numbers[Rows] = Numbers()
        self._results: Numbers[Result] = Numbers()
        self._steps: Numbers[Step] = Numbers()
        self._processes: Numbers[tuple[Task, tuple[int, ...]]] = Numbers()
        self._continuation: dict[tuple[int, int], int] = {}
        self._next_steps: dict[int, int | None] = {}
        self._performed: dict[tuple[int, ...], tuple[int, int]] = {}
        self._drained: set[tuple[Any, ...]] = set()

    def explore(self) -> Report:
        """Visit every state, those with the fewest steps first, up to the first violation."""
        # A million tuples, all of them in use: a fifth of the time went into searching them.
        gc.disable()
        try:
            return self._explore()
        finally:
            gc.enable()

    def _explore(self) -> Report:
        start = self._start()
        came_from: dict[State, tuple[State, str] | None] = {start: None}
        waiting = deque([start])
        while waiting:
            state = waiting.popleft()
            label = ""
            try:
                self._check(state)
                for label, following in self._following(state):
                    if following not in came_from:
                        came_from[following] = (state, label)
                        waiting.append(following)
            except Violation as violation:
                path = (*_path(came_from, state), str(violation.args[1]))
                return Report(len(came_from), str(violation.args[0]), path)
        return Report(len(came_from), None, ())

    def _start(self) -> State:
        self._rig.empty()
        count = len(self._runner.messages)
        return State(
            ledger=self._dumps.of(self._rig.dump_ledger()),
            stores=(self._contents.of({}),) * len(STORES),
            late=(),
            deliveries_left=self._limits.deliveries,
            is_acknowledged=(False,) * count,
            processes=(),
            phase=0,
            late_left=self._limits.late,
            sweeps_left=self._limits.sweeps,
            is_faultless=True,
        )

    def _following(self, state: State) -> Iterator[tuple[str, State]]:
        for position, left in enumerate(state.deliveries_left):
            if left:
                rest = _replaced(state.deliveries_left, position, left - 1)
                paid = state._replace(deliveries_left=rest)
                yield from self._begin(paid, Delivery((position,)))
        if state.sweeps_left and state.phase:
            paid = state._replace(sweeps_left=state.sweeps_left - 1)
            yield from self._begin(paid, Sweep(self._sweeping_at(state.phase)))
        for position in range(len(state.processes)):
            yield from self._continuations(state, position)
        for batch in state.late:
            yield f"late write lands: {self._steps.values[batch]}", self._land(state, batch)
            yield "late write is lost", _without_late(state, batch)
        idle = not state.processes and not state.late
        if idle and state.phase < self._limits.phases:
            yield "the horizon passes", state._replace(phase=state.phase + 1)

    def _begin(self, state: State, task: Task) -> Iterator[tuple[str, State]]:
        """Begin a process with its first step; before that step nothing has changed."""
        alone = not state.processes and not state.late
        others = [Process(process.number, False) for process in state.processes]
        yield from self._do_next(state, others, Process(self._process(task), alone))

    def _continuations(self, state: State, position: int) -> Iterator[tuple[str, State]]:
        process = state.processes[position]
        others = [*state.processes[:position], *state.processes[position + 1 :]]
        yield from self._do_next(state, others, process)
        step_number = self._next_step(process.number)
        step = self._steps.values[step_number or 0]
        dead = State(*_with_processes(state, others)[:-1], is_faultless=False)
        yield f"{self._name(process.number)} dies before {step.label}", dead
        if step.method == "write" and step.component == "milvus" and state.late_left:
            yield from self._delays(state, others, process.number, step_number or 0)

    def _delays(
        self, state: State, others: list[Process], number: int, step_number: int
    ) -> Iterator[tuple[str, State]]:
        """Leave the step, a write to Milvus, on its way."""
        template = f"{self._name(number)} {{}} {self._steps.values[step_number].label}"
        disturbed = [Process(process.number, False) for process in others]
        late = state._replace(
            late=(*state.late, step_number), late_left=state.late_left - 1, is_faultless=False
        )
        yield template.format("dies during"), _with_processes(late, disturbed)
        timed_out = self._results.of(Result(StoreUnavailable("milvus", "timeout")))
        for label, after in self._after_result(late, disturbed, Process(number, False), timed_out):
            yield template.format("times out in") + label, after

    def _do_next(
        self, state: State, others: list[Process], process: Process
    ) -> Iterator[tuple[str, State]]:
        step_number = self._next_step(process.number)
        if step_number is None:
            return
        state, result = self._perform(state, step_number)
        label = f"{self._name(process.number)}: {self._steps.values[step_number].label}"
        for ending, after in self._after_result(state, others, process, result):
            yield label + ending, after

    def _after_result(
        self, state: State, others: list[Process], process: Process, result: int
    ) -> Iterator[tuple[str, State]]:
        """Continue to the next step that other processes could notice.

        No other process sees an acknowledgement, so it follows at once; or the process dies just
        before it.
        """
        number = self._continued(process.number, result)
        step_number = self._next_step(number)
        if step_number is None:
            yield ", ends", _with_processes(state, others)
            return
        step = self._steps.values[step_number]
        if step.component != "queue":
            yield "", _with_processes(state, [*others, Process(number, process.is_undisturbed)])
            return
        problem = self._problem(state) if process.is_undisturbed else None
        if problem:
            raise Violation(f"acknowledged undisturbed, but {problem}", step.label)
        gone = _with_processes(state, others)
        yield ", acknowledged", _acknowledged(gone, step)
        yield ", dies before it acknowledges", gone._replace(is_faultless=False)

    def _perform(self, state: State, step_number: int) -> tuple[State, int]:
        """Return the state after a step on the ledger or a store, and the number of its result."""
        step = self._steps.values[step_number]
        if step.component in STORES:
            at = STORES.index(step.component)
            after, result = self._once((state.stores[at], step_number), self._on_store)
            return State(state.ledger, _replaced(state.stores, at, after), *state[2:]), result
        key = (state.ledger, step_number, state.phase)
        after, result = self._once(key, self._on_ledger)
        return State(after, *state[1:]), result

    def _once(
        self, key: tuple[int, ...], perform: Callable[..., tuple[int, int]]
    ) -> tuple[int, int]:
        if key not in self._performed:
            self._performed[key] = perform(*key)
        return self._performed[key]

    def _on_store(self, contents: int, step_number: int) -> tuple[int, int]:
        step = self._steps.values[step_number]
        store = self._rig.stores[step.component]
        store.contents = self._contents.values[contents]
        result = self._rig.perform(step)
        return self._contents.of(store.contents), self._results.of(result)

    def _on_ledger(self, dump: int, step_number: int, phase: int) -> tuple[int, int]:
        self._set_clock(phase)
        self._rig.restore_ledger(self._dumps.values[dump])
        result = self._rig.perform(self._steps.values[step_number])
        return self._dumps.of(self._rig.dump_ledger()), self._results.of(result)

    def _land(self, state: State, batch: int) -> State:
        landed, _ = self._perform(state, batch)
        return _without_late(landed, batch)

    def _next_step(self, number: int) -> int | None:
        if number not in self._next_steps:
            task, results = self._processes.values[number]
            step = self._runner.next_step(
                task, [self._results.values[result] for result in results]
            )
            key = step and (step.component, step.method, freeze(step.arguments))
            self._next_steps[number] = None if step is None else self._steps.of(step, key)
        return self._next_steps[number]

    def _process(self, task: Task, results: tuple[int, ...] = ()) -> int:
        return self._processes.of((task, results), (task, results))

    def _continued(self, number: int, result: int) -> int:
        if (number, result) not in self._continuation:
            task, results = self._processes.values[number]
            self._continuation[number, result] = self._process(task, (*results, result))
        return self._continuation[number, result]

    def _check(self, state: State) -> None:
        """Raise ``Violation`` if nothing runs and a promise is broken."""
        if state.processes:
            return
        if state.is_faultless and self._problem(state):
            raise Violation(f"no fault at all, and {self._problem(state)}", "(nothing runs)")
        key = (state.ledger, state.stores, state.late, state.is_acknowledged, state.phase)
        if key in self._drained:
            return
        self._drained.add(key)
        for ending in self._endings(state):
            problem = self._problem(ending) or self._not_finished(ending)
            if problem:
                raise Violation(problem, "(the rest is delivered, swept after the horizon)")

    def _endings(self, state: State) -> Iterator[State]:
        """Deliver and sweep everything; a write on its way lands before, after or never."""
        yield self._sweep_up(self._deliver_rest(_all_lost(state)))
        for batch in state.late:
            yield self._sweep_up(self._deliver_rest(self._land(state, batch)))
            rest = self._deliver_rest(_without_late(state, batch))
            yield self._sweep_up(self._land(rest._replace(late=(batch,)), batch))

    def _deliver_rest(self, state: State) -> State:
        for position, is_acknowledged in enumerate(state.is_acknowledged):
            if not is_acknowledged:
                state = self._run(state, Delivery((position,)))
        return state

    def _sweep_up(self, state: State) -> State:
        for _ in range(MAX_SWEEPS_TO_REPAIR):
            state = state._replace(phase=state.phase + 1)
            state = self._run(state, Sweep(self._sweeping_at(state.phase)))
        return state

    def _run(self, state: State, task: Task) -> State:
        number = self._process(task)
        while (step_number := self._next_step(number)) is not None:
            step = self._steps.values[step_number]
            if step.component == "queue":
                return _acknowledged(state, step)
            state, result = self._perform(state, step_number)
            number = self._continued(number, result)
        return state

    def _problem(self, state: State) -> str | None:
        """How a store differs from the ledger, or None when both stores equal it."""
        row = self._ledger_row(state)
        expected = {} if row is None or row["deleted"] else {row["id"]: row["revision"]}
        for name, contents in zip(STORES, state.stores, strict=True):
            rows = self._contents.values[contents].values()
            revisions = {row.id: row.revision for row in rows if not row.deleted}
            if revisions != expected:
                return f"{name} has {revisions}, the ledger has {expected}"
        return None

    def _not_finished(self, state: State) -> str | None:
        row = self._ledger_row(state)
        if row is None or row["version_value"] != len(state.is_acknowledged):
            return "the ledger does not hold the newest message"
        if row["name"] != self._newest_name:
            return f"the ledger has the name {row['name']!r}, not {self._newest_name!r}"
        if row["check_after"] is not None:
            return "a check is still pending"
        return None if all(state.is_acknowledged) else "a message was never acknowledged"

    def _ledger_row(self, state: State) -> dict[str, Any] | None:
        rows = self._dumps.values[state.ledger][0]
        return dict(zip(COLUMNS, rows[0], strict=True)) if rows else None

    def _sweeping_at(self, phase: int) -> Any:
        self._set_clock(phase)
        return self._rig.clock.sweeping_at

    def _set_clock(self, phase: int) -> None:
        clock = self._rig.clock
        clock.reset()
        for _ in range(phase):
            clock.advance_beyond_the_horizon()

    def _name(self, number: int) -> str:
        task, _ = self._processes.values[number]
        return "sweeper" if isinstance(task, Sweep) else f"m{task.messages[0] + 1}"


def _with_processes(state: State, processes: Sequence[Process]) -> State:
    # A third of the time of ``_replace``: this is done a million times.
    return State(*state[:5], tuple(sorted(processes)), *state[6:])


def _acknowledged(state: State, step: Step) -> State:
    flags = [
        flag or position in step.arguments[0] for position, flag in enumerate(state.is_acknowledged)
    ]
    return state._replace(is_acknowledged=tuple(flags))


def _without_late(state: State, batch: int) -> State:
    late = list(state.late)
    late.remove(batch)
    return state._replace(late=tuple(late))


def _all_lost(state: State) -> State:
    return state._replace(late=())


def _replaced(values: tuple[Any, ...], position: int, value: Any) -> tuple[Any, ...]:
    return (*values[:position], value, *values[position + 1 :])


def _path(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels: list[str] = []
    while (step := came_from[state]) is not None:
        state, label = step
        labels.append(label)
    return tuple(reversed(labels))
