"""How far the worker is, as a terminal and as a log file see it."""

import io
import itertools
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from product_consumer.demo import progress as module
from product_consumer.demo.feed import Counts
from product_consumer.demo.progress import Progress


class FakeFeed:
    """Settles ``step`` messages between two counts, once ``idle_counts`` have gone by."""

    def __init__(self, total: int, step: int, idle_counts: int = 0) -> None:
        self._done: Iterator[int] = itertools.chain(
            [0] * (idle_counts + 1), range(step, total, step), itertools.repeat(total)
        )
        self._total = total

    def counts(self) -> Counts:
        return Counts(self._total, in_flight=0, done=next(self._done))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.005)


def progress_of(*feeds: FakeFeed) -> Progress:
    return Progress(*feeds)  # type: ignore[arg-type]


def test_off_a_terminal_there_are_a_few_whole_lines(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    progress_of(FakeFeed(100, 1), FakeFeed(40, 1)).watch(threading.Event())

    lines = caplog.messages
    assert 2 <= len(lines) <= 12
    assert lines[-1] == "Handled 100 of 100 product messages and 40 of 40 orders"
    assert len(set(lines)) == len(lines)
    assert "\r" not in capsys.readouterr().err


def test_off_a_terminal_a_short_run_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress_of(FakeFeed(100, 20), FakeFeed(40, 20)).watch(threading.Event())

    assert caplog.messages == ["Handled 100 of 100 product messages and 40 of 40 orders"]


def test_the_last_line_is_said_once_however_slow_the_counting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    progress_of(FakeFeed(3, 1), FakeFeed(0, 1)).watch(threading.Event())

    assert len(set(caplog.messages)) == len(caplog.messages)


def test_nothing_is_repeated_while_nothing_moves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    progress_of(FakeFeed(10, 10, idle_counts=40), FakeFeed(0, 1)).watch(threading.Event())

    assert caplog.messages == ["Handled 10 of 10 product messages and 0 of 0 orders"]


def test_on_a_terminal_one_bar_is_drawn_again_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    caplog.set_level(logging.INFO)
    progress_of(FakeFeed(100, 20), FakeFeed(40, 20)).watch(threading.Event())

    assert "\r" in terminal.getvalue()
    assert "140/140" in terminal.getvalue()
    assert not caplog.messages


def test_it_ends_with_the_worker_and_says_how_far_that_came(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    ended = threading.Event()
    ended.set()
    progress = progress_of(FakeFeed(100, 7), FakeFeed(40, 40))
    progress.watch(ended)

    assert caplog.messages == ["Handled 7 of 100 product messages and 40 of 40 orders"]
    assert progress.done < progress.total


def test_the_clock_runs_from_the_first_receive_to_the_last_settled_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = itertools.count()
    monkeypatch.setattr(module, "monotonic", lambda: float(next(now)))
    progress = progress_of(FakeFeed(3, 1, idle_counts=5), FakeFeed(0, 1))
    for _ in range(20):
        progress.count()

    # Three counts saw something new; the waiting before and after does not count.
    assert progress.done == 3
    assert progress.seconds == 3.0
