"""Which thread is in which stage, and which has been there for too long."""

import threading
from collections.abc import Callable

from product_consumer.pipeline.stages import BETWEEN, OTHER_STAGE_SECONDS, Stages, stage_timeouts


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def stages_with(clock: Clock) -> Stages:
    stages = Stages(clock=clock)
    stages.timeouts = {"embed": 60.0}
    return stages


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()


def test_a_thread_is_overdue_only_beyond_the_limit_of_its_stage() -> None:
    clock = Clock()
    stages = stages_with(clock)
    stages.enter("embed")
    clock.now = 60.0
    assert stages.overdue() == []
    clock.now = 61.0

    assert stages.overdue() == ["MainThread has been at embed for 61 s"]


def test_a_touch_starts_the_time_of_the_stage_again() -> None:
    clock = Clock()
    stages = stages_with(clock)
    stages.enter("embed")
    clock.now = 50.0
    stages.touch()
    clock.now = 110.0

    assert stages.overdue() == []


def test_a_stage_without_a_limit_of_its_own_has_one() -> None:
    clock = Clock()
    stages = stages_with(clock)
    stages.enter("unheard of")
    clock.now = OTHER_STAGE_SECONDS + 1

    assert len(stages.overdue()) == 1


def test_a_thread_that_left_is_not_watched() -> None:
    clock = Clock()
    stages = stages_with(clock)
    stages.enter("embed")
    stages.leave()
    clock.now = 1000.0

    assert stages.overdue() == []


def test_a_touch_of_an_unwatched_thread_changes_nothing() -> None:
    stages = stages_with(Clock())
    in_a_thread(stages.touch)

    assert stages.overdue() == []


def test_a_thread_that_ended_without_leaving_died() -> None:
    stages = stages_with(Clock())
    in_a_thread(lambda: stages.enter("embed"))

    assert stages.overdue() == ["worker died at embed"]


def test_a_thread_is_watched_within_a_stage_and_after_it() -> None:
    stages = Stages()
    stages.timeouts = {"embed": -1.0, BETWEEN: 60.0}
    with stages.stage("embed"):
        assert len(stages.overdue()) == 1

    assert stages.overdue() == []


def test_a_slow_device_has_its_own_time() -> None:
    timeouts = stage_timeouts(
        wait_seconds=20, store_timeout_seconds=10, image_timeout_seconds=15, answer_seconds=600
    )

    assert timeouts["embed"] > 2 * 600
    assert timeouts["reuse"] >= timeouts["embed"]
    assert timeouts[BETWEEN] >= timeouts["embed"]
    assert timeouts["receive"] > 3 * (20 + 15)
    assert timeouts["fetch_image"] > 15
