"""Who is at which stage, and who has been there too long."""

import threading
from collections.abc import Callable

from product_consumer.metrics import Metrics
from product_consumer.pipeline.stages import BETWEEN, OTHER_STAGE_SECONDS, Beats, stage_limits


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def beats_with(clock: Clock) -> Beats:
    beats = Beats(clock)
    beats.limits = {"embed": 60.0}
    return beats


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()


def test_a_thread_is_overdue_only_beyond_the_limit_of_its_stage() -> None:
    clock = Clock()
    beats = beats_with(clock)
    beats.at("embed")
    clock.now = 60.0
    assert beats.overdue() == []
    clock.now = 61.0

    assert beats.overdue() == ["MainThread has been at embed for 61 s"]


def test_a_touch_starts_the_time_of_the_stage_again() -> None:
    clock = Clock()
    beats = beats_with(clock)
    beats.at("embed")
    clock.now = 50.0
    beats.touch()
    clock.now = 110.0

    assert beats.overdue() == []


def test_a_stage_without_a_limit_of_its_own_has_one() -> None:
    clock = Clock()
    beats = beats_with(clock)
    beats.at("unheard of")
    clock.now = OTHER_STAGE_SECONDS + 1

    assert len(beats.overdue()) == 1


def test_a_thread_that_left_is_not_watched() -> None:
    clock = Clock()
    beats = beats_with(clock)
    beats.at("embed")
    beats.leave()
    clock.now = 1000.0

    assert beats.overdue() == []


def test_a_touch_of_a_stranger_is_nothing() -> None:
    beats = beats_with(Clock())
    in_a_thread(beats.touch)

    assert beats.overdue() == []


def test_a_thread_that_ended_without_leaving_died() -> None:
    beats = beats_with(Clock())
    in_a_thread(lambda: beats.at("embed"))

    assert beats.overdue() == ["worker died at embed"]


def test_a_stage_beats_at_both_its_ends() -> None:
    metrics = Metrics()
    metrics.beats.limits = {"embed": -1.0, BETWEEN: 60.0}
    with metrics.stage("embed"):
        assert len(metrics.beats.overdue()) == 1

    assert metrics.beats.overdue() == []


def test_a_slow_device_has_its_own_time() -> None:
    limits = stage_limits(
        wait_seconds=20, store_timeout_seconds=10, image_timeout_seconds=15, answer_seconds=600
    )

    assert limits["embed"] > 2 * 600
    assert limits[BETWEEN] >= limits["embed"]
    assert limits["receive"] > 3 * (20 + 15)
    assert limits["fetch_image"] > 15
