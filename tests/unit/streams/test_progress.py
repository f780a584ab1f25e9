"""What a producer or a collector tells of its progress."""

import io
import logging
import sys
from threading import Event

import pytest

from product_consumer.streams import progress as progress_module
from product_consumer.streams.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_done_is_told_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Progress("Sent", "words", 2000) as progress:
        progress.add(1200)
        progress.add(34, refused=2, left_out=0)

    assert caplog.messages == ["Sent 1,234 of 2,000 words, 2 refused, in 0.0 s"]


def test_a_line_is_told_at_intervals_while_something_happens(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    ticks = iter([0, 5, 0, 7])

    class Ticks(Event):
        def wait(self, timeout: float | None = None) -> bool:
            count = next(ticks, None)
            if count is None:
                return super().wait(timeout)
            progress.add(count)
            return False

    monkeypatch.setattr(progress_module, "Event", Ticks)
    progress = Progress("Saved", "pictures")
    with progress:
        while len(caplog.messages) < 2:
            pass

    assert [line.partition(",")[0] for line in caplog.messages] == [
        *("Saved 5 pictures", "Saved 12 pictures", "Saved 12 pictures"),
    ]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("Sent", "words", 10) as progress:
        progress.add(10)

    assert "Sent: 100%" in terminal.getvalue()
    assert "10/10" in terminal.getvalue()
