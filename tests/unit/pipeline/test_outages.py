"""An outage is one line when it begins, one a minute, and one when it ends."""

import logging

import pytest

from product_consumer.errors import StoreUnavailable
from product_consumer.pipeline.outages import CALM_SECONDS, MAX_CALM_SECONDS, Outages

DOWN = StoreUnavailable("redis", "OOM")
FIRST, SECOND = object(), object()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """Outages with a clock that the test moves, and the lines that they have logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.clock = Clock()
        self.outages = Outages(self.clock)
        self.outages.watch("redis")
        self._caplog = caplog

    def wait(self, seconds: float) -> None:
        """Let time pass, with a report each second."""
        for _ in range(int(seconds)):
            self.clock.now += 1
            self.outages.report()

    @property
    def lines(self) -> list[str]:
        return self._caplog.messages

    def states(self) -> dict[str, bool]:
        return self.outages.states()


@pytest.fixture
def rig(caplog: pytest.LogCaptureFixture) -> Rig:
    return Rig(caplog)


def test_a_dependency_that_never_failed_is_up(rig: Rig) -> None:
    rig.wait(100)
    assert rig.states() == {"redis": False}
    assert rig.lines == []


def test_an_outage_of_three_minutes_is_told_in_five_lines(rig: Rig) -> None:
    for _ in range(12):
        rig.outages.refused("redis", FIRST, DOWN)
        rig.wait(15)
    rig.outages.answered("redis", FIRST)
    rig.wait(CALM_SECONDS)

    assert rig.lines == [
        "redis is down, waiting for it: OOM",
        "redis is still down after 60 s: OOM",
        "redis is still down after 120 s: OOM",
        "redis is still down after 180 s: OOM",
        "redis is back after 180.0 s",
    ]
    assert rig.states() == {"redis": False}


def test_the_line_of_each_minute_tells_the_newest_error(rig: Rig) -> None:
    rig.outages.refused("redis", FIRST, DOWN)
    rig.outages.refused("redis", FIRST, StoreUnavailable("redis", "READONLY"))
    rig.wait(60)

    assert rig.lines[-1].endswith("READONLY")


def test_an_outage_is_over_when_every_breaker_that_waits_for_it_was_answered(rig: Rig) -> None:
    rig.outages.refused("redis", FIRST, DOWN)
    rig.outages.refused("redis", SECOND, DOWN)
    rig.outages.answered("redis", FIRST)
    rig.wait(30)
    assert rig.states() == {"redis": True}

    rig.outages.answered("redis", SECOND)
    rig.wait(CALM_SECONDS)
    assert rig.states() == {"redis": False}
    assert len(rig.lines) == 2


def test_a_dependency_that_takes_every_other_call_stays_down_in_few_lines(rig: Rig) -> None:
    for _ in range(20 * 60 // 10):
        rig.outages.refused("redis", FIRST, DOWN)
        rig.wait(2)
        rig.outages.answered("redis", FIRST)
        rig.wait(8)

    assert len(rig.lines) < 60


def test_an_outage_long_after_the_last_one_ends_as_quickly_as_the_first(rig: Rig) -> None:
    for _ in range(3):
        rig.outages.refused("redis", FIRST, DOWN)
        rig.wait(1)
        rig.outages.answered("redis", FIRST)
        rig.wait(MAX_CALM_SECONDS + CALM_SECONDS + 1)

    assert len(rig.lines) == 6
    assert rig.lines[-1] == "redis is back after 1.0 s"
