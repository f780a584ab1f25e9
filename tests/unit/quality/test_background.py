"""Work that nothing waits for: bounded, in batches, and never a reason to stop."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from product_consumer.errors import StoreUnavailable
from product_consumer.quality import background
from product_consumer.quality.background import Background


class Rig:
    """A ``Background`` of numbers, what it handled, and how many it lost."""

    def __init__(self, **options: Any) -> None:
        self.batches: list[list[int]] = []
        self.lost = 0
        self.handle: Callable[[list[int]], object] = lambda _batch: None
        sizes = {"capacity": 100, "batch_size": 10} | options
        self.background: Background[int] = Background("checks", self._handle, self._lose, **sizes)

    @property
    def handled(self) -> list[int]:
        return [number for batch in self.batches for number in batch]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert condition(), (self.batches, self.lost)

    def _handle(self, batch: list[int]) -> None:
        self.batches.append(batch)
        self.handle(batch)

    def _lose(self, count: int) -> None:
        self.lost += count


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    opened: list[Rig] = []

    def make(**options: Any) -> Rig:
        opened.append(Rig(**options))
        return opened[-1]

    yield make
    for each in opened:
        each.background.stop(1)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_FAILURE_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(background, "_GATHER_SECONDS", 0.05)


def test_what_is_put_in_is_handled_in_order_and_in_batches(rig: Callable[..., Rig]) -> None:
    work = rig(batch_size=4)
    for number in range(10):
        assert work.background.put(number)
    work.background.start()
    work.wait_for(lambda: len(work.handled) == 10)

    assert work.handled == list(range(10))
    assert max(map(len, work.batches)) == 4
    assert work.lost == 0


def test_a_full_queue_refuses_at_once(rig: Callable[..., Rig]) -> None:
    work = rig(capacity=3)
    started = time.monotonic()

    assert [work.background.put(number) for number in range(5)] == [True] * 3 + [False] * 2
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("error", [StoreUnavailable("ledger", "no answer"), ValueError("a bug")])
def test_a_batch_that_fails_is_lost_and_the_next_is_handled(
    rig: Callable[..., Rig], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    work = rig(batch_size=2)

    def fail_first(batch: list[int]) -> None:
        if 0 in batch:
            raise error

    work.handle = fail_first
    for number in range(4):
        work.background.put(number)
    work.background.start()
    work.wait_for(lambda: len(work.batches) == 2)

    assert (work.batches, work.lost) == ([[0, 1], [2, 3]], 2)
    [record] = caplog.records
    is_bug = isinstance(error, ValueError)
    assert record.levelno == (logging.ERROR if is_bug else logging.WARNING)
    assert (record.exc_info is not None) is is_bug
    assert "checks: 2 checks were lost" in record.getMessage()


def test_work_takes_half_of_the_time_at_most(rig: Callable[..., Rig]) -> None:
    work = rig(batch_size=1)
    times: list[float] = []

    def dawdle(_batch: list[int]) -> None:
        times.append(time.monotonic())
        time.sleep(0.1)

    work.handle = dawdle
    for number in range(4):
        work.background.put(number)
    work.background.start()
    work.wait_for(lambda: len(times) == 4)

    assert times[-1] - times[0] >= 3 * 0.2


def test_a_stop_lets_what_is_waiting_be_finished(rig: Callable[..., Rig]) -> None:
    work = rig(batch_size=10)
    work.background.start()
    for number in range(30):
        work.background.put(number)
    work.background.stop(10)

    assert (work.handled, work.lost) == (list(range(30)), 0)


def test_a_stop_does_not_wait_for_longer_than_it_was_told(rig: Callable[..., Rig]) -> None:
    work = rig(batch_size=1)
    going_on = threading.Event()
    work.handle = lambda _batch: going_on.wait(10)
    work.background.start()
    for number in range(5):
        work.background.put(number)
    work.wait_for(lambda: len(work.batches) == 1)
    started = time.monotonic()
    work.background.stop(0.2)

    assert time.monotonic() - started < 5
    assert work.lost == 4
    going_on.set()


def test_nothing_is_taken_after_a_stop(rig: Callable[..., Rig]) -> None:
    work = rig()
    work.background.start()
    work.background.stop(5)

    assert not work.background.put(1)


def test_what_was_never_started_loses_what_was_put_in(rig: Callable[..., Rig]) -> None:
    work = rig()
    for number in range(3):
        work.background.put(number)
    work.background.stop(0)

    assert (work.handled, work.lost) == ([], 3)
