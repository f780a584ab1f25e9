"""Each message of a batch gets one outcome."""

from dataclasses import dataclass
from typing import Any

import pytest

from product_consumer.errors import FatalError, InvalidMessage, RetryMessage, StoreUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Ignored, Outcome, Rejected, Released, RetryLater
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.context import ProcessContext, new_context
from tests.support import factories
from tests.support.metrics import timed_stages


@dataclass(slots=True, eq=False)
class FakeItem:
    message: Message
    outcome: Outcome | None = None
    taken: object = None

    def take(self, result: object) -> None:
        if isinstance(result, Exception):
            raise result
        self.taken = result


def batch_of(count: int, context: ProcessContext | None = None) -> Batch[FakeItem]:
    items = [FakeItem(factories.message(str(number))) for number in range(count)]
    return Batch(items, context or new_context(), max_attempts=3)


def failing_at(position: int, batch: Batch[FakeItem], error: Exception) -> Any:
    def step(item: FakeItem) -> None:
        if item is batch.items[position]:
            raise error

    return step


def test_an_error_settles_its_own_item_and_spares_the_others() -> None:
    batch = batch_of(3)
    going_on = batch.each("validate", batch.items, failing_at(1, batch, InvalidMessage("bad", "x")))

    assert going_on == [batch.items[0], batch.items[2]]
    assert batch.items[1].outcome == Rejected("validate", "bad", "x")


def test_each_item_takes_its_own_result() -> None:
    batch = batch_of(3)
    results = ["first", RetryMessage("later", delay_seconds=7), "third"]
    going_on = batch.accept("fetch_image", batch.items, results, FakeItem.take)

    assert [item.taken for item in going_on] == ["first", "third"]
    assert batch.items[1].outcome == RetryLater(7, "fetch_image", "later")


def test_a_missing_result_is_a_bug_of_ours_and_no_message_takes_that_of_another() -> None:
    batch = batch_of(2)
    with batch:
        batch.accept("embed", batch.items, ["only one"], FakeItem.take)

    assert [type(outcome) for outcome in batch.outcomes()] == [RetryLater, RetryLater]


def test_errors_are_settled_by_position() -> None:
    batch = batch_of(3)
    batch.fail("ledger", batch.items, {2: InvalidMessage("refused")})

    assert batch.undecided(batch.items) == batch.items[:2]


def test_an_error_that_leaves_the_block_settles_all_open_items() -> None:
    batch = batch_of(3)
    with batch:
        batch.items[0].outcome = Ignored("done before")
        raise StoreUnavailable("milvus", "no answer")

    assert [type(outcome) for outcome in batch.outcomes()] == [Ignored, Released, Released]


def test_a_fatal_error_leaves_the_block_and_settles_nothing() -> None:
    batch = batch_of(2)
    with pytest.raises(FatalError), batch:
        batch.each("embed", batch.items, failing_at(0, batch, FatalError("the device is lost")))

    assert batch.undecided(batch.items) == batch.items


def test_the_end_of_a_thread_leaves_the_block() -> None:
    batch = batch_of(1)
    with pytest.raises(SystemExit), batch:
        raise SystemExit


def test_a_message_that_was_delivered_again_is_dropped() -> None:
    batch = batch_of(2)
    lost = batch.items[0].message
    held = batch.release_lost(batch.items, lambda message: message is not lost)

    assert held == [batch.items[1]]
    assert batch.items[0].outcome == Released("delivered again elsewhere")


def test_an_item_without_an_outcome_goes_back_to_the_queue() -> None:
    assert batch_of(1).outcomes() == [Released("left unfinished")]


def test_a_stage_is_timed_and_watched() -> None:
    context = new_context()
    batch = batch_of(1, context)
    context.stages.timeouts = {"embed": -1.0}
    with batch.stage("embed"):
        assert len(context.stages.overdue()) == 1

    assert timed_stages(context.metrics) == {"embed"}
