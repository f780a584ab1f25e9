"""Batch: the messages of one receive on their way through a pipeline, to one outcome each.

Every pipeline begins with a batch, so that all streams handle errors the same way. An error settles
its own item and spares the others; an item that nothing settled goes back to the queue.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from product_consumer.errors import FatalError
from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Released
from product_consumer.pipeline.context import ProcessContext
from product_consumer.pipeline.error_policy import outcome_of


class BatchItem(Protocol):
    """One message, and its outcome once it is known; later steps leave the item alone then."""

    @property
    def message(self) -> Message: ...

    outcome: Outcome | None


Item = TypeVar("Item", bound=BatchItem)
Result = TypeVar("Result")


class Batch(Generic[Item]):
    """The items of one receive, as a context manager in which errors become outcomes.

    For one thread. Steps take items and return those that go on: the items without an outcome. An
    error that leaves the block settles all of these. Only a ``FatalError`` and the end of the
    thread pass through. ``max_attempts``: deliveries after which a passing failure is final.
    """

    def __init__(
        self, items: Iterable[Item], context: ProcessContext, *, max_attempts: int
    ) -> None:
        self.items = list(items)
        self._stages = context.stages
        self._max_attempts = max_attempts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, FatalError):
            return False
        for item in self.undecided(self.items):
            self.settle(item, "pipeline", error)
        return True

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time the block as this batch's stay in a stage."""
        return self._stages.stage(name)

    def each(self, stage: str, items: Iterable[Item], step: Callable[[Item], object]) -> list[Item]:
        """Run a step on one item after the other; return those that go on."""
        items = list(items)
        for item in items:
            self._attempt(stage, item, partial(step, item))
        return self.undecided(items)

    def accept(
        self,
        stage: str,
        items: Sequence[Item],
        results: Sequence[Result],
        take: Callable[[Item, Result], object],
    ) -> list[Item]:
        """Hand each item its result, in order; ``take`` raises if the result is an error."""
        for item, result in zip(items, results, strict=True):
            self._attempt(stage, item, partial(take, item, result))
        return self.undecided(items)

    def settle(self, item: Item, stage: str, error: Exception) -> None:
        """Give an item the outcome that its error's class asks for."""
        item.outcome = outcome_of(error, item.message, stage, max_attempts=self._max_attempts)

    def fail(self, stage: str, items: Sequence[Item], errors: Mapping[int, Exception]) -> None:
        """Settle each item that has an error at its position."""
        for position, error in errors.items():
            self.settle(items[position], stage, error)

    def release_lost(self, items: Iterable[Item], is_held: Callable[[Message], bool]) -> list[Item]:
        """Drop messages that were delivered again, for the next delivery; return those held."""
        items = list(items)
        for item in items:
            if not is_held(item.message):
                item.outcome = Released("delivered again elsewhere")
        return self.undecided(items)

    def undecided(self, items: Iterable[Item]) -> list[Item]:
        """Return the items that have no outcome yet."""
        return [item for item in items if item.outcome is None]

    def outcomes(self) -> list[Outcome]:
        """Return one outcome per item, in order; released where a bug left one without."""
        return [item.outcome or Released("left unfinished") for item in self.items]

    def _attempt(self, stage: str, item: Item, action: Callable[[], object]) -> None:
        self._stages.touch()
        try:
            action()
        except FatalError:
            raise
        except Exception as error:
            self.settle(item, stage, error)
