"""While a dependency refuses a kind of call, these stay in hand and are tried one at a time."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from product_consumer.errors import ConfigurationError, RejectMessage, StoreUnavailable
from product_consumer.pipeline import circuit_breaker
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.pipeline.hold import Hold

DOWN = StoreUnavailable("milvus", "connection refused")
HOLD_SECONDS = 0.6


class FakeDependency:
    """A dependency that answers reads, and refuses writes while ``error`` is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.writes = self.probes = self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def read(self) -> str:
        return "read"

    def write(self) -> str:
        self.writes += 1
        self._refuse()
        return "written"

    def probe(self) -> None:
        self.probes += 1
        self._refuse()

    def _refuse(self) -> None:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(0.005)
        with self._lock:
            self._at_once -= 1
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(circuit_breaker, "MAX_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(circuit_breaker, "_POLL_SECONDS", 0.01)


@pytest.fixture
def dependency() -> FakeDependency:
    return FakeDependency()


@pytest.fixture
def context() -> Iterator[ProcessContext]:
    context = new_context(hold=Hold(HOLD_SECONDS))
    yield context
    context.stopping.set()


@pytest.fixture
def breakers(dependency: FakeDependency, context: ProcessContext) -> Breakers:
    return Breakers({"milvus": dependency.probe}, context)


def after(seconds: float, act: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def come_back(dependency: FakeDependency) -> None:
    dependency.error = None


def open_breaker(breakers: Breakers, dependency: FakeDependency, context: ProcessContext) -> None:
    """Let a write fail until its hold ends: nobody has such a call in hand afterwards."""
    dependency.error = DOWN
    with context.hold.messages(), pytest.raises(StoreUnavailable):
        breakers.call("milvus", "write", dependency.write)


def test_a_dependency_that_answers_is_called_and_never_probed(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    assert breakers.call("milvus", "write", dependency.write) == "written"
    assert breakers.wait_until_closed()
    assert (dependency.writes, dependency.probes) == (1, 0)


@pytest.mark.parametrize("error", [DOWN, ConfigurationError("MILVUS_URI", "refused the token")])
def test_a_refused_call_is_tried_again_until_it_is_taken(
    error: Exception, dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = error
    after(0.1, lambda: come_back(dependency))

    assert breakers.call("milvus", "write", dependency.write) == "written"
    assert dependency.writes >= 2
    assert dependency.probes == 0, "the call in hand is its own probe"
    assert breakers.states() == {"milvus": False}


def test_an_error_that_says_nothing_of_the_dependency_passes_at_once(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        breakers.call("milvus", "write", dependency.write)
    assert (dependency.writes, breakers.states()) == (1, {"milvus": False})


def test_a_read_does_not_close_a_breaker_that_a_write_opened(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = DOWN
    with ThreadPoolExecutor(2) as threads:
        write = threads.submit(breakers.call, "milvus", "write", dependency.write)
        while not breakers.states()["milvus"]:
            time.sleep(0.005)
        read = threads.submit(breakers.call, "milvus", "read", dependency.read)
        time.sleep(0.15)

        assert breakers.states() == {"milvus": True}
        assert not read.done(), "what is in hand waits"
        come_back(dependency)
        assert (write.result(5), read.result(5)) == ("written", "read")


def test_messages_in_hand_are_given_back_when_their_hold_ends(
    dependency: FakeDependency, breakers: Breakers, context: ProcessContext
) -> None:
    started = time.monotonic()
    open_breaker(breakers, dependency, context)

    assert HOLD_SECONDS <= time.monotonic() - started < 5
    assert breakers.states() == {"milvus": True}


def test_two_calls_of_one_batch_share_its_hold(
    dependency: FakeDependency, breakers: Breakers, context: ProcessContext
) -> None:
    dependency.error = DOWN
    with context.hold.messages():
        for _ in range(2):
            tried = dependency.writes + dependency.probes
            with pytest.raises(StoreUnavailable, match="connection refused"):
                breakers.call("milvus", "write", dependency.write)

    assert dependency.writes + dependency.probes - tried <= 1


def test_a_thread_without_messages_waits_as_long_as_it_takes(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = DOWN
    after(2 * HOLD_SECONDS, lambda: come_back(dependency))

    assert breakers.call("milvus", "write", dependency.write) == "written"


def test_a_stop_ends_every_wait(
    dependency: FakeDependency, breakers: Breakers, context: ProcessContext
) -> None:
    dependency.error = DOWN
    after(0.1, context.stopping.set)
    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", "write", dependency.write)

    assert not breakers.wait_until_closed()


def test_each_call_is_tried_once_even_on_a_stop(
    dependency: FakeDependency, breakers: Breakers, context: ProcessContext
) -> None:
    open_breaker(breakers, dependency, context)
    context.stopping.set()
    come_back(dependency)

    assert breakers.call("milvus", "write", dependency.write) == "written"


def test_nobody_receives_while_any_dependency_is_down(
    dependency: FakeDependency, context: ProcessContext
) -> None:
    ledger = FakeDependency()
    breakers = Breakers({"ledger": ledger.probe, "milvus": dependency.probe}, context)
    open_breaker(breakers, dependency, context)
    assert breakers.states() == {"ledger": False, "milvus": True}

    after(0.1, lambda: come_back(dependency))
    assert breakers.wait_until_closed()
    assert breakers.states() == {"ledger": False, "milvus": False}
    assert ledger.probes == 0


def test_a_probe_is_tried_where_no_thread_has_the_refused_call_in_hand(
    dependency: FakeDependency, breakers: Breakers, context: ProcessContext
) -> None:
    open_breaker(breakers, dependency, context)
    writes = dependency.writes
    after(0.2, lambda: come_back(dependency))

    assert breakers.wait_until_closed()
    assert dependency.probes >= 2, "a probe that is refused closes nothing"
    assert dependency.writes == writes


def test_a_thread_with_another_call_in_hand_probes_too(
    dependency: FakeDependency, breakers: Breakers, context: ProcessContext
) -> None:
    open_breaker(breakers, dependency, context)
    come_back(dependency)

    assert breakers.call("milvus", "read", dependency.read) == "read"
    assert dependency.probes == 1


def test_one_thread_tries_while_the_others_wait(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = DOWN
    with ThreadPoolExecutor(6) as threads:
        done = [
            threads.submit(breakers.call, "milvus", "write", dependency.write) for _ in range(6)
        ]
        time.sleep(0.1)
        dependency.most_at_once = 0
        time.sleep(0.3)
        most_at_once = dependency.most_at_once
        come_back(dependency)
        assert [call.result(5) for call in done] == ["written"] * 6

    assert most_at_once == 1


def test_the_pauses_between_trials_grow(
    dependency: FakeDependency,
    breakers: Breakers,
    context: ProcessContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuit_breaker, "MAX_PAUSE_SECONDS", 100)
    open_breaker(breakers, dependency, context)

    # 0.02, 0.04, 0.08 ... s, of which at least half passes: at most 5 fit into the hold.
    assert 2 <= dependency.writes <= 6


def test_one_call_that_fails_while_others_succeed_is_no_outage(
    dependency: FakeDependency,
    breakers: Breakers,
    context: ProcessContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refused() -> None:
        raise StoreUnavailable("milvus", "this row is too large")

    def waits_alone() -> None:
        with context.hold.messages(), pytest.raises(StoreUnavailable, match="too large"):
            breakers.call("milvus", "write", refused)

    alone = threading.Thread(target=waits_alone)
    alone.start()
    written = 0
    while alone.is_alive():
        breakers.call("milvus", "write", dependency.write)
        written += 1
        time.sleep(0.01)

    assert written > 10
    assert breakers.states() == {"milvus": False}
    said = [text for text in caplog.messages if "refuses one write" in text]
    assert len(said) == 1


def test_a_trial_that_ends_in_a_refusal_of_the_data_lets_the_next_call_try(
    dependency: FakeDependency, breakers: Breakers
) -> None:
    dependency.error = DOWN
    bad_answers: list[Exception] = [DOWN, RejectMessage("store_rejected", "a bad row")]

    def bad() -> None:
        raise bad_answers.pop(0)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(breakers.call, "milvus", "write", bad)
        second = threads.submit(breakers.call, "milvus", "write", dependency.write)
        with pytest.raises(RejectMessage):
            first.result(5)
        come_back(dependency)
        assert second.result(5) == "written"


def test_an_outage_is_logged_once_whatever_the_number_of_threads(
    dependency: FakeDependency, breakers: Breakers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dependency.error = DOWN
    after(0.2, lambda: come_back(dependency))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: breakers.call("milvus", "write", dependency.write), range(4)))

    assert caplog.messages == ["milvus is down, waiting for it: connection refused"]


def test_the_metrics_name_what_is_down_and_its_thread_lives(
    dependency: FakeDependency, breakers: Breakers, context: ProcessContext
) -> None:
    context.stages.timeouts = {"stores": 0.3}
    dependency.error = DOWN
    overdue: list[list[str]] = []

    def look() -> None:
        overdue.append(context.stages.overdue())

    for seconds in (0.2, 0.4, 0.5):
        after(seconds, look)
    with context.stages.stage("stores"), context.hold.messages(), pytest.raises(StoreUnavailable):
        breakers.call("milvus", "write", dependency.write)

    assert context.metrics.down_dependencies() == ["milvus"]
    assert overdue == [[], [], []]
