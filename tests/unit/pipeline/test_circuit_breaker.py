"""While a part is down its messages wait, one thread probes it, and nothing is lost by that."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.pipeline import circuit_breaker
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import new_context

DOWN = StoreUnavailable("milvus", "connection refused")


class FakePart:
    """A part that can be down; counts its calls and probes."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = self.probes = self.most_probes_at_once = 0
        self._probing = 0
        self._lock = threading.Lock()

    def call(self) -> str:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "done"

    def probe(self) -> None:
        with self._lock:
            self.probes += 1
            self._probing += 1
            self.most_probes_at_once = max(self.most_probes_at_once, self._probing)
        time.sleep(0.05)
        with self._lock:
            self._probing -= 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def part() -> FakePart:
    return FakePart()


@pytest.fixture
def stopping() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def breakers(part: FakePart, stopping: threading.Event) -> Breakers:
    return Breakers({"milvus": part.probe}, new_context(stopping))


@pytest.fixture(autouse=True)
def short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages in hand wait for 1.2 s, which is time for two probes."""
    monkeypatch.setattr(circuit_breaker, "HOLD_SECONDS", 1.2)


def after(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def test_a_part_that_answers_is_called_and_never_probed(part: FakePart, breakers: Breakers) -> None:
    assert breakers.call("milvus", part.call) == "done"
    assert breakers.wait_until_closed()
    assert (part.calls, part.probes) == (1, 0)


@pytest.mark.parametrize("error", [DOWN, ConfigurationError("MILVUS_URI", "refused the token")])
def test_a_call_waits_for_a_part_that_comes_back(
    error: Exception, part: FakePart, breakers: Breakers
) -> None:
    part.error = error
    after(0.2, lambda: setattr(part, "error", None))

    assert breakers.call("milvus", part.call) == "done"
    assert (part.calls, part.probes) == (2, 1)
    assert breakers.states() == {"milvus": False}


def test_an_error_that_says_nothing_of_the_part_passes_at_once(
    part: FakePart, breakers: Breakers
) -> None:
    part.error = ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        breakers.call("milvus", part.call)
    assert (part.calls, breakers.states()) == (1, {"milvus": False})


def test_a_part_that_stays_down_is_waited_for_so_long_and_no_longer(
    part: FakePart, breakers: Breakers
) -> None:
    part.error = DOWN
    started = time.monotonic()

    with pytest.raises(StoreUnavailable, match="connection refused"):
        breakers.call("milvus", part.call)

    assert 1.2 <= time.monotonic() - started < 5
    assert breakers.states() == {"milvus": True}
    assert part.calls == 1, "a real message is no probe"


def test_a_stop_ends_every_wait(
    part: FakePart, breakers: Breakers, stopping: threading.Event
) -> None:
    part.error = DOWN
    after(0.1, stopping.set)
    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", part.call)

    assert not breakers.wait_until_closed()
    assert part.probes == 0


def test_nobody_receives_while_any_part_is_down(part: FakePart, stopping: threading.Event) -> None:
    ledger = FakePart()
    breakers = Breakers({"ledger": ledger.probe, "milvus": part.probe}, new_context(stopping))
    part.error = DOWN
    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", part.call)
    assert breakers.states() == {"ledger": False, "milvus": True}

    after(0.2, lambda: setattr(part, "error", None))
    assert breakers.wait_until_closed()
    assert breakers.states() == {"ledger": False, "milvus": False}
    assert ledger.probes == 0


def test_one_thread_probes_while_the_others_wait(part: FakePart, breakers: Breakers) -> None:
    part.error = DOWN
    after(0.3, lambda: setattr(part, "error", None))

    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda _: breakers.call("milvus", part.call), range(6)))

    assert done == ["done"] * 6
    assert part.most_probes_at_once == 1


def test_an_outage_is_logged_once_and_its_end_with_its_duration(
    part: FakePart, breakers: Breakers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    part.error = DOWN
    after(0.2, lambda: setattr(part, "error", None))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: breakers.call("milvus", part.call), range(4)))

    down, back = (record.getMessage() for record in caplog.records)
    assert down == f"milvus is down, waiting for it: {DOWN}"
    assert back.startswith("milvus is back after ")


def test_the_metrics_show_what_is_down_and_that_its_thread_lives(
    part: FakePart, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = new_context(stopping)
    touches: list[str] = []
    monkeypatch.setattr(context.stages, "touch", lambda: touches.append("touch"))
    breakers = Breakers({"milvus": part.probe}, context)
    part.error = DOWN
    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", part.call)

    text = context.metrics.exposition("text/plain")[0].decode()
    assert 'product_breaker_open{part="milvus"} 1.0' in text
    assert len(touches) > 2
