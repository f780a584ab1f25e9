"""Runs our own code one call at a time, so that a test decides what happens between two calls.

A process (the handling of one delivery, or one sweep) is our real code on fake components. It runs
from its start with the results it has had so far, and stops at its next step: the first call
without a result. So a process is only its task and its results, which can be kept, compared and
continued in several ways. No thread has to be paused.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from data_management import ProductPipeline
from product_consumer.errors import Unavailable
from product_consumer.models import Message, ProductRow
from product_consumer.outcomes import Ignored, Stored
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.context import new_context
from product_consumer.products.item import ProductItem
from product_consumer.products.parser import ProductParser
from product_consumer.products.shared_stores import share
from product_consumer.sync.sweeper import Sweeper
from tests.support import factories

HORIZON_SECONDS = 300
DIMENSION = 4
STORES = ("milvus", "keywords")


@dataclass(frozen=True, eq=False)
class Step:
    """The next call of a process: a method of a component."""

    component: str
    method: str
    arguments: tuple[Any, ...]

    @property
    def is_write(self) -> bool:
        return self.method == "write"

    @property
    def rows(self) -> list[ProductRow]:
        """The rows of a ``write``."""
        return list(self.arguments[0])

    @functools.cached_property
    def label(self) -> str:
        if not self.is_write:
            return f"{self.component}.{self.method}"
        rows = (f"{row.id} {'deleted' if row.deleted else row.name}" for row in self.rows)
        return f"{self.component}.{self.method}({', '.join(rows)})"

    def __repr__(self) -> str:
        return self.label


@dataclass(frozen=True, eq=False)
class Result:
    """The value that a step returned, or the error that it raised."""

    value: Any

    def get(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value.with_traceback(None) from None
        return self.value


@dataclass(frozen=True)
class Delivery:
    """Handle one batch of messages; ``messages``: their positions in the list of all messages."""

    messages: tuple[int, ...]


@dataclass(frozen=True)
class Sweep:
    """Sweep once."""

    now: datetime


Task = Delivery | Sweep


class NextStep(BaseException):
    """Raised at a step without a result, to end the run; no handler of ours catches it."""

    def __init__(self, step: Step) -> None:
        self.step = step


class FakeComponent:
    """The ledger, its pending checks, a store or the queue of one process.

    A call returns the next of the process's results; the first call after them raises ``NextStep``.
    """

    # The pipeline opens a table on it; these tasks never use that table.
    database = None

    def __init__(self, name: str, past: "itertools.chain[Result]") -> None:
        self.name = name
        self._past = past

    def ping(self) -> None:
        """A breaker's probe is no step: the component is up, and the call is tried again."""

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            # The caller's iterators and views are copied: the step outlives the call.
            kept = tuple(_copied(argument) for argument in arguments)
            for result in self._past:
                return result.get()
            raise NextStep(Step(self.name, method, kept))

        return call


class Runner:
    """Runs processes from their start to their next step. Not thread-safe.

    ``pipeline`` and ``sweeper`` are the real classes, or have a planted bug.
    """

    def __init__(
        self,
        messages: Sequence[Message],
        pipeline: type[ProductPipeline] = ProductPipeline,
        sweeper: type[Sweeper] = Sweeper,
    ) -> None:
        self.messages = messages
        self._pipeline = type("StepPipeline", (_ReadyImages, pipeline), {})
        self._sweeper = sweeper
        self._parser = ProductParser(default_currency="VND", source_timezone="UTC")
        stopping: Any = _NeverSet()
        self._context = new_context(stopping)

    def next_step(self, task: Task, results: Sequence[Result]) -> Step | None:
        """Return the step after these results, or None when the process has ended."""
        past = itertools.chain(results)
        try:
            if isinstance(task, Delivery):
                self._deliver(task, past)
            else:
                self._sweep(task, past)
        except NextStep as following:
            return following.step
        return None

    def _deliver(self, task: Delivery, past: "itertools.chain[Result]") -> None:
        ledger: Any = FakeComponent("ledger", past)
        stores: Any = [FakeComponent(name, past) for name in STORES]
        components: dict[str, Any] = {
            "parser": self._parser,
            "fetcher": None,
            "decoder": None,
            "embedder": None,
            "shared": share(ledger, stores, self._context),
            "in_flight": _HoldsEverything(),
            "context": self._context,
        }
        batch = [self.messages[position] for position in task.messages]
        outcomes = self._pipeline(**components, max_attempts=8).process(batch)
        settled = zip(task.messages, outcomes, strict=True)
        done = [position for position, outcome in settled if isinstance(outcome, Stored | Ignored)]
        if done:
            FakeComponent("queue", past).acknowledge(done)

    def _sweep(self, task: Sweep, past: "itertools.chain[Result]") -> None:
        ledger: Any = FakeComponent("ledger", past)
        pending_checks: Any = FakeComponent("pending_checks", past)
        stores: Any = [FakeComponent(name, past) for name in STORES]
        sweeper = self._sweeper(
            ledger, pending_checks, stores, repair_horizon_seconds=HORIZON_SECONDS
        )
        with contextlib.suppress(Unavailable):
            sweeper.sweep_once(task.now)


class _ReadyImages:
    """Replaces download, decoding and model: other processes see nothing of them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reuse = _ReusesEverything()
        self._crash_guard = _RunsNothing()

    def fetch_images(
        self, _batch: Batch[ProductItem], changed: list[ProductItem]
    ) -> list[ProductItem]:
        for item in changed:
            item.embeddings = factories.embeddings(item.product.version.value, DIMENSION)
        return changed


class _ReusesEverything:
    """An embedding reuse that has every embedding, so that the pipeline embeds nothing."""

    def split(
        self, _batch: Batch[ProductItem], fetched: list[ProductItem]
    ) -> tuple[list[ProductItem], list[ProductItem]]:
        return fetched, []


class _RunsNothing:
    """A crash guard that is never given an item."""

    def run(self, *_arguments: Any) -> list[ProductItem]:
        return []


class _HoldsEverything:
    """An in-flight tracker whose leases never end."""

    def is_held(self, _message: Message) -> bool:
        return True


class _NeverSet:
    """A stop event on which nothing ever waits."""

    def is_set(self) -> bool:
        return False

    def wait(self, _seconds: float | None = None) -> bool:
        return False


def freeze(value: Any) -> Any:
    """Return something hashable that is equal for equal values."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return (type(value).__name__, *(freeze(getattr(value, field.name)) for field in fields))
    if isinstance(value, Mapping):
        return ("mapping", *((key, freeze(value[key])) for key in sorted(value)))
    if isinstance(value, set | frozenset):
        return ("set", *sorted(map(freeze, value)))
    if isinstance(value, list | tuple):
        return tuple(map(freeze, value))
    if isinstance(value, Exception):
        return (type(value).__name__, str(value))
    return value


def _copied(argument: Any) -> Any:
    if isinstance(argument, Mapping):
        return dict(argument)
    is_list = isinstance(argument, Collection) and not isinstance(argument, str | set)
    return list(argument) if is_list else argument
