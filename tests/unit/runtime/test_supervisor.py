"""Real processes that are stopped, killed by their own bugs, and hang."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY
from tests.support.running_program import RunningProgram

LEAVE_BEFORE_A_HANGING_LIBRARY = """
import atexit, time
from product_consumer.runtime.signals import leave
atexit.register(time.sleep, 60)
print("last words", end="")
leave(3)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningProgram]]:
    started: list[RunningProgram] = []

    def begin(*arguments: str) -> RunningProgram:
        started.append(RunningProgram(tmp_path, "one_worker.py", *arguments))
        return started[-1]

    yield begin
    for program in started:
        program.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_0(start, number: signal.Signals) -> None:
    process = start("finish")
    process.wait_for("holding")
    process.signal(number)

    assert process.exit_code() == 0
    assert process.out.splitlines() == ["life 1", "holding", "finished", "left in flight: 0"]


def test_messages_that_are_not_finished_in_time_are_released(start) -> None:
    process = start("hold", "1")
    process.wait_for("holding")
    process.signal(signal.SIGTERM)

    assert process.exit_code(seconds=10) == 0
    assert "released 1" in process.out
    assert "left" in process.out.splitlines()


def test_a_queue_that_does_not_answer_cannot_hold_up_the_end(start) -> None:
    process = start("hold_silent", "1")
    process.wait_for("holding")
    process.signal(signal.SIGTERM)

    assert process.exit_code(seconds=10) == 0


def test_a_component_that_does_not_close_cannot_hold_up_the_end(start) -> None:
    process = start("close_hangs", "1")
    process.wait_for("life 1")
    process.signal(signal.SIGTERM)

    assert process.exit_code(seconds=10) == 0
    assert "left in flight: 0" in process.out


def test_a_second_signal_releases_and_exits_1_within_three_seconds(start) -> None:
    process = start("hold")
    process.wait_for("holding")
    process.signal(signal.SIGTERM)
    time.sleep(0.2)
    process.signal(signal.SIGTERM)

    assert process.exit_code(seconds=3) == 1
    assert "released 1" in process.out
    assert "left" in process.out.splitlines()


def test_a_second_signal_does_not_wait_for_a_silent_queue(start) -> None:
    process = start("hold_silent")
    process.wait_for("holding")
    process.signal(signal.SIGINT)
    time.sleep(0.2)
    process.signal(signal.SIGINT)

    assert process.exit_code(seconds=3) == 1


def test_a_signal_ends_a_start_that_is_busy(start) -> None:
    process = start("start")
    process.wait_for("starting")
    process.signal(signal.SIGTERM)

    assert process.exit_code(seconds=5) == 0


def test_a_second_signal_ends_a_start_at_once(start) -> None:
    process = start("start")
    process.wait_for("starting")
    process.signal(signal.SIGTERM)
    time.sleep(0.2)
    process.signal(signal.SIGTERM)

    assert process.exit_code(seconds=3) == 1


def test_a_consumer_that_died_is_started_again(start) -> None:
    process = start("raise_once")
    process.wait_for("life 2")
    process.signal(signal.SIGTERM)

    assert process.exit_code() == 0
    assert "ZeroDivisionError: a bug" in process.err


@pytest.mark.parametrize("behaviour", ["raise", "exit"])
def test_consumers_that_keep_dying_end_the_process(start, behaviour: str) -> None:
    process = start(behaviour)

    assert process.exit_code() == 70
    assert "life 6" in process.out
    assert "fatal: threads keep dying" in process.out


def test_a_fatal_error_ends_the_process(start) -> None:
    process = start("fatal")

    assert process.exit_code() == 70
    assert process.out.splitlines() == ["life 1", "fatal: the device is lost"]


def test_the_deaths_of_any_threads_are_logged_and_counted(start) -> None:
    process = start("others_die")

    assert process.exit_code() == 70
    assert "ZeroDivisionError" in process.err
    assert "fatal: threads keep dying" in process.out


def test_a_model_that_died_ends_the_process(start) -> None:
    process = start("model_dies")

    assert process.exit_code() == 70
    assert "fatal: the model died" in process.out


def test_a_dead_tracker_ends_the_process(start) -> None:
    process = start("tracker_dies")

    assert process.exit_code() == 70
    assert "in-flight-tracker died" in process.err


def test_a_hanging_consumer_ends_the_process_with_every_stack_and_its_messages_released(
    start,
) -> None:
    process = start("hang")

    assert process.exit_code() == 70
    assert "consumer-1 has been at overdue at once" in process.err
    assert re.search(r'File ".*one_worker.py", line \d+ in hold', process.err)
    assert "released 1" in process.out
    # Its message may be why it hangs.
    assert "left" not in process.out.splitlines()


def test_sigusr1_prints_every_stack_and_ends_nothing(start) -> None:
    process = start("hold")
    process.wait_for("holding")
    process.signal(signal.SIGUSR1)

    process.wait_for("in hold")
    deadline = time.monotonic() + 20
    while process.err.count("most recent call first") < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.err.count("most recent call first") >= 3
    assert process.popen.poll() is None


def test_a_library_that_hangs_at_the_interpreters_end_does_not_hold_up_the_exit() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVE_BEFORE_A_HANGING_LIBRARY],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (3, "last words")
