import threading
from pathlib import Path

import numpy as np
import pytest

from product_consumer.streams.anomaly.keeper import SAVED_AFTER_RECORDS, StateKeeper
from product_consumer.streams.anomaly.state import State
from product_consumer.streams.anomaly.state_files import StateFiles

WAIT_SECONDS = 10.0


class Files(StateFiles):
    """Remembers what is written, and may fail."""

    def __init__(self) -> None:
        super().__init__(Path(), "q")
        self.written: list[int] = []
        self.has_written = threading.Event()
        self.failures: list[OSError] = []

    def write(self, state: State) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.written.append(state.seen)
        self.has_written.set()


class Learning:
    def __init__(self) -> None:
        self.seen = 0

    def state(self) -> State:
        return State("q", "relation", (), (), self.seen, False, {"scores": np.zeros(0)})


def test_a_state_is_written_after_a_thousand_records_without_waiting() -> None:
    files, learning = Files(), Learning()
    keeper = StateKeeper(files, learning.state, after_seconds=3600)
    keeper.start()
    learning.seen = SAVED_AFTER_RECORDS
    keeper.note(SAVED_AFTER_RECORDS - 1)
    keeper.note(1)
    assert files.has_written.wait(WAIT_SECONDS)
    keeper.close()
    assert files.written == [SAVED_AFTER_RECORDS]


def test_a_state_is_written_after_some_seconds_although_no_more_records_come() -> None:
    files, learning = Files(), Learning()
    learning.seen = 3
    keeper = StateKeeper(files, learning.state, after_seconds=0.01)
    keeper.start()
    assert files.has_written.wait(WAIT_SECONDS)
    keeper.close()
    assert files.written == [3]


def test_a_stop_writes_what_is_new() -> None:
    files, learning = Files(), Learning()
    keeper = StateKeeper(files, learning.state, after_seconds=3600)
    keeper.start()
    learning.seen = 5
    keeper.close()
    assert files.written == [5]


def test_a_failure_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    files, learning = Files(), Learning()
    files.failures = [OSError(28, "No space left on device") for _ in range(2)]
    learning.seen = 1
    keeper = StateKeeper(files, learning.state, after_seconds=0.01)
    keeper.start()
    assert files.has_written.wait(WAIT_SECONDS)
    keeper.close()
    assert caplog.messages == [
        "The detector's state cannot be written: No space left on device",
        "The detector's state is written again",
    ]


def test_an_error_of_ours_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    files, learning = Files(), Learning()
    broken = [True]

    def state() -> State:
        if broken.pop() if broken else False:
            raise ValueError("a bug")
        return learning.state()

    keeper = StateKeeper(files, state, after_seconds=0.01)
    keeper.start()
    assert files.has_written.wait(WAIT_SECONDS)
    keeper.close()
    assert "The detector's state cannot be written" in caplog.text
