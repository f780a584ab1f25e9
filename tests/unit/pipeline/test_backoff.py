"""Delays grow, are random within bounds, and end on stop."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import StoreUnavailable
from product_consumer.pipeline.backoff import (
    Backoff,
    Stopped,
    exponential_delay_seconds,
    wait_until_available,
)


def never_lucky() -> float:
    return 0.0


def nearly_one() -> float:
    return 0.999_999


@pytest.mark.parametrize(
    ("receive_count", "seconds"), [(1, 10.0), (2, 20.0), (3, 40.0), (6, 320.0), (7, 450.0)]
)
def test_at_least_half_of_a_delay_that_doubles_up_to_its_cap(
    receive_count: int, seconds: float
) -> None:
    assert exponential_delay_seconds(receive_count, random=never_lucky) == seconds


@given(
    receive_count=st.integers(min_value=-5, max_value=2**63),
    base_seconds=st.floats(min_value=0.001, max_value=1e6),
    cap_seconds=st.floats(min_value=0.001, max_value=1e6),
)
def test_no_delay_is_over_its_cap_or_nothing(
    receive_count: int, base_seconds: float, cap_seconds: float
) -> None:
    delay = exponential_delay_seconds(receive_count, base_seconds, cap_seconds)

    assert 0 < delay <= cap_seconds


def test_messages_that_failed_together_do_not_come_back_together() -> None:
    delays = {exponential_delay_seconds(3) for _ in range(20)}

    assert len(delays) > 10


def test_eight_deliveries_span_about_half_an_hour() -> None:
    shortest = sum(exponential_delay_seconds(n, random=never_lucky) for n in range(1, 8))
    longest = sum(exponential_delay_seconds(n, random=nearly_one) for n in range(1, 8))

    assert 15 * 60 < shortest < 30 * 60 < longest < 40 * 60


class RecordingEvent(threading.Event):
    """Records how long it was asked to wait, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self.is_set()


def test_waits_grow_up_to_the_cap_and_start_again_after_a_reset() -> None:
    stopping = RecordingEvent()
    backoff = Backoff(1.0, 5.0, random=never_lucky)

    for _ in range(5):
        assert backoff.wait(stopping) is False
    backoff.reset()
    backoff.wait(stopping)

    assert stopping.waits == [0.5, 1.0, 2.0, 2.5, 2.5, 0.5]


def test_a_wait_ends_at_once_on_stop() -> None:
    stopping = threading.Event()
    threading.Timer(0.05, stopping.set).start()

    assert Backoff(3600.0, 3600.0).wait(stopping) is True


def test_a_step_of_a_start_is_repeated_until_its_dependency_is_there() -> None:
    answers = iter([StoreUnavailable("milvus", "down"), StoreUnavailable("milvus", "down"), None])

    def step() -> None:
        error = next(answers)
        if error is not None:
            raise error

    event = RecordingEvent()

    wait_until_available(step, event, "Waiting")

    assert len(event.waits) == 2


def test_no_step_of_a_start_is_begun_after_a_stop() -> None:
    event = threading.Event()
    event.set()

    with pytest.raises(Stopped):
        wait_until_available(lambda: pytest.fail("begun"), event, "Waiting")


def test_a_wait_is_told_when_it_begins_once_a_minute_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    seconds = iter([*range(0, 150, 5), *range(150, 400)])
    failures = iter(range(25))

    def step() -> None:
        if next(failures, None) is not None:
            raise StoreUnavailable("milvus", "gone")

    pauses = Backoff(first_seconds=1e-6, cap_seconds=1e-6)
    wait_until_available(
        step, threading.Event(), "Waiting", clock=lambda: float(next(seconds)), backoff=pauses
    )

    told = [record.getMessage() for record in caplog.records]
    assert told[:-1] == ["Waiting: milvus is unavailable: gone"] * 3
    assert told[-1].startswith("Waited to start for")
