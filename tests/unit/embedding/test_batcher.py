import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.embedding.batcher import Batcher
from product_consumer.errors import FatalError, RetryMessage, Unavailable

WAIT = 10.0

Run = Callable[[Sequence[int]], Sequence[int | Exception]]
Begin = Callable[[Sequence[int]], Callable[[], Sequence[int | Exception]]]


@contextmanager
def batcher(
    run: Run | Begin, max_batch: int = 8, max_waiting: int = 64
) -> Iterator[Batcher[int, int]]:
    running: Batcher[int, int] = Batcher(
        run, name="model", max_batch=max_batch, max_waiting=max_waiting
    )
    try:
        yield running
    finally:
        running.close(WAIT)


def squares(items: Sequence[int]) -> list[int | Exception]:
    return [item * item for item in items]


class Gate:
    """A device that holds its first batch until it is opened, and remembers every batch."""

    def __init__(self, run: Run = squares) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Event()
        self.opened = threading.Event()
        self._run = run

    def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        self.entered.set()
        if not self.opened.wait(WAIT):
            raise TimeoutError("the gate was never opened")
        return self._run(items)


def results(futures: Sequence["Future[int]"]) -> list[int]:
    return [future.result(WAIT) for future in futures]


def errors(futures: Sequence["Future[int]"]) -> list[type[BaseException] | None]:
    raised = [future.exception(WAIT) for future in futures]
    return [None if error is None else type(error) for error in raised]


def test_every_item_gets_its_own_result_in_order() -> None:
    with batcher(squares) as model:
        assert results(model.submit([3, 1, 2], timeout_seconds=WAIT)) == [9, 1, 4]


def test_items_handed_over_alone_share_their_batch_with_nobody() -> None:
    gate = Gate()
    with batcher(gate) as model:
        futures = list(model.submit([1], timeout_seconds=WAIT))
        assert gate.entered.wait(WAIT)
        for items, alone in (([2, 3], False), ([4, 5], True), ([6, 7], False)):
            futures += model.submit(items, timeout_seconds=WAIT, alone=alone)
        gate.opened.set()

        assert results(futures) == [1, 4, 9, 16, 25, 36, 49]
    assert gate.batches == [[1], [2, 3], [4], [5], [6, 7]]


def test_an_empty_hand_over_gives_no_futures() -> None:
    with batcher(squares) as model:
        assert model.submit([], timeout_seconds=WAIT) == []


def test_a_single_item_starts_at_once_and_items_that_come_meanwhile_are_one_batch() -> None:
    gate = Gate()
    with batcher(gate) as model:
        first = model.submit([0], timeout_seconds=WAIT)
        assert gate.entered.wait(WAIT)
        later = [
            future
            for number in range(1, 6)
            for future in model.submit([number], timeout_seconds=WAIT)
        ]
        gate.opened.set()
        assert results(first + later) == [0, 1, 4, 9, 16, 25]
    assert gate.batches == [[0], [1, 2, 3, 4, 5]]


def test_no_batch_is_larger_than_allowed_and_order_of_arrival_is_kept() -> None:
    gate = Gate()
    with batcher(gate, max_batch=3) as model:
        futures = model.submit([0], timeout_seconds=WAIT)
        assert gate.entered.wait(WAIT)
        futures += model.submit(range(1, 8), timeout_seconds=WAIT)
        gate.opened.set()
        results(futures)
    assert gate.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_a_returned_exception_belongs_to_its_item_alone() -> None:
    def run(items: Sequence[int]) -> list[int | Exception]:
        return [RetryMessage("odd") if item % 2 else item for item in items]

    with batcher(run) as model:
        futures = model.submit([0, 1, 2], timeout_seconds=WAIT)
        assert errors(futures) == [None, RetryMessage, None]


@given(
    poisonous=st.sets(st.integers(0, 19), max_size=5),
    max_batch=st.integers(1, 20),
)
def test_poisonous_items_fail_alone_whatever_shares_their_batch(
    poisonous: set[int], max_batch: int
) -> None:
    def run(items: Sequence[int]) -> list[int | Exception]:
        if poisonous.intersection(items):
            raise ValueError("poison")
        return squares(items)

    with batcher(run, max_batch=max_batch) as model:
        futures = model.submit(range(20), timeout_seconds=WAIT)
        expected = [ValueError if item in poisonous else None for item in range(20)]
        assert errors(futures) == expected


def test_the_thread_survives_a_failing_batch() -> None:
    def run(items: Sequence[int]) -> list[int | Exception]:
        if 13 in items:
            raise ValueError("poison")
        return squares(items)

    with batcher(run) as model:
        assert errors(model.submit([13], timeout_seconds=WAIT)) == [ValueError]
        assert results(model.submit([2], timeout_seconds=WAIT)) == [4]
        assert not model.failed


def test_a_wrong_number_of_results_is_never_paired_with_items() -> None:
    with batcher(lambda items: squares(items)[:-1]) as model:
        futures = model.submit([1, 2, 3], timeout_seconds=WAIT)
        assert errors(futures) == [RuntimeError] * 3


@pytest.mark.parametrize("ending", [FatalError("device lost"), SystemExit(1)])
def test_the_end_of_the_thread_fails_all_waiting_and_all_later_items(
    ending: BaseException,
) -> None:
    def run(items: Sequence[int]) -> list[int | Exception]:
        raise ending

    gate = Gate(run)
    with batcher(gate) as model:
        running = model.submit([1, 2], timeout_seconds=WAIT)
        assert gate.entered.wait(WAIT)
        waiting = model.submit([3], timeout_seconds=WAIT)
        gate.opened.set()
        assert errors(running + waiting) == [FatalError] * 3
        assert model.failed
        with pytest.raises(FatalError):
            model.submit([4], timeout_seconds=WAIT)
    assert gate.batches == [[1, 2]]


def test_a_fatal_error_while_halving_keeps_results_that_were_already_given() -> None:
    def run(items: Sequence[int]) -> list[int | Exception]:
        if len(items) > 1:
            raise ValueError("too many")
        if items[0] == 2:
            raise FatalError("device lost")
        return squares(items)

    with batcher(run) as model:
        futures = model.submit([1, 2, 3, 4], timeout_seconds=WAIT)
        assert errors(futures) == [None, FatalError, FatalError, FatalError]


def test_callers_are_held_back_while_the_queue_is_full() -> None:
    gate = Gate()
    with batcher(gate, max_batch=1, max_waiting=2) as model:
        futures = model.submit([0], timeout_seconds=WAIT)
        assert gate.entered.wait(WAIT)
        futures += model.submit([1, 2], timeout_seconds=WAIT)
        with pytest.raises(Unavailable, match="no room"):
            model.submit([3], timeout_seconds=0.01)
        gate.opened.set()
        assert results(futures) == [0, 1, 4]
    assert [3] not in gate.batches


def test_a_held_back_caller_goes_on_when_there_is_room() -> None:
    gate = Gate()
    with batcher(gate, max_batch=1, max_waiting=1) as model, ThreadPoolExecutor() as pool:
        model.submit([0], timeout_seconds=WAIT)
        assert gate.entered.wait(WAIT)
        model.submit([1], timeout_seconds=WAIT)
        held_back = pool.submit(model.submit, [2], timeout_seconds=WAIT)
        gate.opened.set()
        assert results(held_back.result(WAIT)) == [4]


def test_closing_finishes_waiting_items_and_refuses_later_ones() -> None:
    gate = Gate()
    with batcher(gate, max_batch=1) as model:
        futures = model.submit([1, 2, 3], timeout_seconds=WAIT)
        gate.opened.set()
        model.close(WAIT)
        assert [future.done() for future in futures] == [True] * 3
        assert results(futures) == [1, 4, 9]
        with pytest.raises(Unavailable, match="closed"):
            model.submit([4], timeout_seconds=WAIT)


def test_closing_gives_up_on_a_device_that_does_not_answer() -> None:
    gate = Gate()
    with batcher(gate, max_batch=1) as model:
        running, waiting = model.submit([1, 2], timeout_seconds=WAIT)
        assert gate.entered.wait(WAIT)
        model.close(0.01)
        assert isinstance(waiting.exception(0), Unavailable)
        gate.opened.set()
        assert running.result(WAIT) == 1
    assert gate.batches == [[1]]


def test_a_cancelled_item_is_not_run() -> None:
    gate = Gate()
    with batcher(gate) as model:
        first = model.submit([0], timeout_seconds=WAIT)
        assert gate.entered.wait(WAIT)
        cancelled, kept = model.submit([1, 2], timeout_seconds=WAIT)
        assert cancelled.cancel()
        gate.opened.set()
        assert results([*first, kept]) == [0, 4]
    assert gate.batches == [[0], [2]]


@pytest.mark.parametrize("two_deep", [False, True])
def test_64_threads_lose_duplicate_and_mix_up_nothing(two_deep: bool) -> None:
    seen: list[int] = []

    def run(items: Sequence[int]) -> list[int | Exception]:
        seen.extend(items)
        if len(items) > 1 and any(item % 97 == 0 for item in items):
            raise ValueError("isolate")
        return [ValueError("poison") if item % 97 == 0 else item * item for item in items]

    def caller(number: int) -> list[int | None]:
        answers: list[int | None] = []
        for start in range(number * 200, (number + 1) * 200, 10):
            futures = model.submit(range(start, start + 10), timeout_seconds=WAIT)
            answers += [None if f.exception(WAIT) else f.result() for f in futures]
        return answers

    device = Stream(run) if two_deep else run
    with batcher(device, max_batch=16, max_waiting=32) as model, ThreadPoolExecutor(64) as pool:
        answers = [answer for lot in pool.map(caller, range(64)) for answer in lot]

    assert answers == [None if item % 97 == 0 else item * item for item in range(64 * 200)]
    assert set(seen) == set(range(64 * 200))


class Stream:
    """A device with a queue of its own: it takes a batch now and gives the results later."""

    def __init__(self, run: Run = squares) -> None:
        self.events: list[str] = []
        self._run = run

    def __call__(self, items: Sequence[int]) -> Callable[[], Sequence[int | Exception]]:
        batch = list(items)
        self.events.append(f"begin {batch}")

        def wait() -> Sequence[int | Exception]:
            self.events.append(f"wait {batch}")
            return self._run(batch)

        return wait


def start_with_a_queue(
    model: Batcher[int, int], gate: Gate, *items: int, alone: bool = False
) -> list["Future[int]"]:
    """Keep the device busy with item 0 while the other items are handed over."""
    futures = list(model.submit([0], timeout_seconds=WAIT))
    assert gate.entered.wait(WAIT)
    futures += model.submit(items, timeout_seconds=WAIT, alone=alone)
    gate.opened.set()
    return futures


def test_the_next_batch_is_begun_before_the_results_of_the_last_are_fetched() -> None:
    gate = Gate()
    stream = Stream(gate)
    with batcher(stream, max_batch=2) as model:
        first = model.submit([0], timeout_seconds=WAIT)
        assert gate.entered.wait(WAIT)
        later = model.submit(range(1, 6), timeout_seconds=WAIT)
        gate.opened.set()
        assert results([*first, *later]) == [0, 1, 4, 9, 16, 25]
    assert stream.events == [
        "begin [0]",
        "wait [0]",
        "begin [1, 2]",
        "begin [3, 4]",
        "wait [1, 2]",
        "begin [5]",
        "wait [3, 4]",
        "wait [5]",
    ]


def test_nothing_is_begun_beside_an_item_that_is_to_be_alone() -> None:
    gate = Gate()
    stream = Stream(gate)
    with batcher(stream, max_batch=2) as model:
        futures = start_with_a_queue(model, gate, 1, 2, alone=True)
        assert results(futures) == [0, 1, 4]
    assert stream.events == [
        "begin [0]",
        "wait [0]",
        "begin [1]",
        "wait [1]",
        "begin [2]",
        "wait [2]",
    ]


@pytest.mark.parametrize("fails_at", ["begin", "wait"])
def test_a_batch_that_fails_is_halved_after_the_one_ahead_of_it(fails_at: str) -> None:
    def refuse(items: Sequence[int]) -> None:
        if len(items) > 1 and 3 in items:
            raise ValueError("too many")

    def run(items: Sequence[int]) -> list[int | Exception]:
        if fails_at == "wait":
            refuse(items)
        return squares(items)

    gate = Gate(run)
    stream = Stream(gate)

    def begin(items: Sequence[int]) -> Callable[[], Sequence[int | Exception]]:
        wait = stream(items)
        if fails_at == "begin":
            refuse(items)
        return wait

    with batcher(begin, max_batch=2) as model:
        assert results(start_with_a_queue(model, gate, 1, 2, 3, 4)) == [0, 1, 4, 9, 16]
    assert stream.events.index("wait [1, 2]") < stream.events.index("begin [3]")


def test_a_fatal_error_of_one_batch_fails_the_one_begun_beside_it() -> None:
    def run(items: Sequence[int]) -> list[int | Exception]:
        if 1 in items:
            raise FatalError("device lost")
        return squares(items)

    gate = Gate(run)
    with batcher(Stream(gate), max_batch=1) as model:
        futures = start_with_a_queue(model, gate, 1, 2, 3)
        assert errors(futures) == [None, FatalError, FatalError, FatalError]
        assert model.failed


def test_closing_fetches_the_results_of_begun_batches() -> None:
    gate = Gate()
    with batcher(Stream(gate), max_batch=1) as model:
        futures = start_with_a_queue(model, gate, 1, 2)
        model.close(WAIT)
        assert results(futures) == [0, 1, 4]


def test_the_halves_of_a_failed_batch_may_be_begun_and_fail_too() -> None:
    poisonous = {5, 6, 11}

    def run(items: Sequence[int]) -> list[int | Exception]:
        if poisonous.intersection(items):
            raise ValueError("poison")
        return squares(items)

    with batcher(Stream(run), max_batch=4) as model:
        futures = model.submit(range(16), timeout_seconds=WAIT)
        expected = [ValueError if item in poisonous else None for item in range(16)]
        assert errors(futures) == expected
