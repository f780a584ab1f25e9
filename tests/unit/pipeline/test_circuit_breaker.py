"""While a dependency is down its messages wait, one thread probes it, and nothing is lost."""

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


class FakeDependency:
    """A dependency that can be down; counts its calls and probes."""

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
def dependency() -> FakeDependency:
    return FakeDependency()


@pytest.fixture
def stopping() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def breakers(dependency: FakeDependency, stopping: threading.Event) -> Breakers:
    return Breakers({"milvus": dependency.probe}, new_context(stopping))


@pytest.fixture(autouse=True)
def short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages in hand wait for 1.2 s, which is time for two probes."""
    monkeypatch.setattr(circuit_breaker, "HOLD_SECONDS", 1.2)


def after(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def test_a_dependency_that_answers_is_called_and_never_probed(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    assert breakers.call("milvus", dependency.call) == "done"
    assert breakers.wait_until_closed()
    assert (dependency.calls, dependency.probes) == (1, 0)


@pytest.mark.parametrize("error", [DOWN, ConfigurationError("MILVUS_URI", "refused the token")])
def test_a_call_waits_for_a_dependency_that_comes_back(
    error: Exception, dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = error
    after(0.2, lambda: setattr(dependency, "error", None))

    assert breakers.call("milvus", dependency.call) == "done"
    assert (dependency.calls, dependency.probes) == (2, 1)
    assert breakers.states() == {"milvus": False}


def test_an_error_that_says_nothing_of_the_dependency_passes_at_once(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        breakers.call("milvus", dependency.call)
    assert (dependency.calls, breakers.states()) == (1, {"milvus": False})


def test_a_dependency_that_stays_down_is_waited_for_so_long_and_no_longer(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = DOWN
    started = time.monotonic()

    with pytest.raises(StoreUnavailable, match="connection refused"):
        breakers.call("milvus", dependency.call)

    assert 1.2 <= time.monotonic() - started < 5
    assert breakers.states() == {"milvus": True}
    assert dependency.calls == 1, "a real message is no probe"


def test_a_stop_ends_every_wait(
    dependency: FakeDependency, breakers: Breakers, stopping: threading.Event
) -> None:
    dependency.error = DOWN
    after(0.1, stopping.set)
    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", dependency.call)

    assert not breakers.wait_until_closed()
    assert dependency.probes == 0


def test_nobody_receives_while_any_dependency_is_down(
    dependency: FakeDependency, stopping: threading.Event
) -> None:
    ledger = FakeDependency()
    breakers = Breakers({"ledger": ledger.probe, "milvus": dependency.probe}, new_context(stopping))
    dependency.error = DOWN
    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", dependency.call)
    assert breakers.states() == {"ledger": False, "milvus": True}

    after(0.2, lambda: setattr(dependency, "error", None))
    assert breakers.wait_until_closed()
    assert breakers.states() == {"ledger": False, "milvus": False}
    assert ledger.probes == 0


def test_one_thread_probes_while_the_others_wait(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = DOWN
    after(0.3, lambda: setattr(dependency, "error", None))

    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda _: breakers.call("milvus", dependency.call), range(6)))

    assert done == ["done"] * 6
    assert dependency.most_probes_at_once == 1


def test_an_outage_is_logged_once_and_its_end_with_its_duration(
    dependency: FakeDependency, breakers: Breakers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dependency.error = DOWN
    after(0.2, lambda: setattr(dependency, "error", None))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: breakers.call("milvus", dependency.call), range(4)))

    down, back = (record.getMessage() for record in caplog.records)
    assert down == f"milvus is down, waiting for it: {DOWN}"
    assert back.startswith("milvus is back after ")


def test_the_metrics_name_what_is_down_and_its_thread_lives(
    dependency: FakeDependency, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = new_context(stopping)
    touches: list[str] = []
    monkeypatch.setattr(context.stages, "touch", lambda: touches.append("touch"))
    breakers = Breakers({"milvus": dependency.probe}, context)
    dependency.error = DOWN
    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", dependency.call)

    text = context.metrics.exposition("text/plain")[0].decode()
    assert 'product_breaker_open{part="milvus"} 1.0' in text
    assert len(touches) > 2
