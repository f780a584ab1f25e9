"""When a thread or process dies too often to be started again."""

import pytest

from product_consumer.runtime import deaths as deaths_module
from product_consumer.runtime.deaths import Deaths


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as the last entry."""
    times = [0.0]
    monkeypatch.setattr(deaths_module, "monotonic", lambda: times[-1])
    return times


def deaths_at(clock: list[float], *seconds: float) -> Deaths:
    deaths = Deaths(2, 60.0)
    for now in seconds:
        clock.append(now)
        deaths.add()
    return deaths


def test_without_a_death_there_are_none(clock: list[float]) -> None:
    assert deaths_at(clock).count == 0


def test_as_many_as_the_limit_are_not_too_many(clock: list[float]) -> None:
    assert not deaths_at(clock, 0, 1).are_too_many


def test_more_than_the_limit_in_the_window_are_too_many(clock: list[float]) -> None:
    assert deaths_at(clock, 0, 30, 59).are_too_many


def test_deaths_before_the_window_do_not_count(clock: list[float]) -> None:
    deaths = deaths_at(clock, 0, 30, 60)

    assert not deaths.are_too_many
    assert deaths.count == 2


def test_many_old_deaths_do_not_hide_a_new_series(clock: list[float]) -> None:
    assert deaths_at(clock, 0, 1, 2, 1000, 1030, 1059).are_too_many
