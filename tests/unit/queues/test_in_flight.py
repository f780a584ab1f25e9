"""Messages that are worked on stay hidden, until they are settled or stuck."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from tests.support.factories import message

VISIBILITY_SECONDS = 120


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class RecordingQueue(InMemoryQueue):
    """A queue that records which messages each call extended, and fails as told."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(VISIBILITY_SECONDS, clock)
        self.extended: list[list[str]] = []
        self.visibilities: set[float] = set()
        self.lost: list[Message] = []
        self.error: Exception | None = None

    def extend(self, messages: Sequence[Message], visibility_seconds: float) -> list[Message]:
        self.visibilities.add(visibility_seconds)
        if self.error is not None:
            raise self.error
        self.extended.append([message.message_id for message in messages])
        return [message for message in messages if message in self.lost]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> RecordingQueue:
    return RecordingQueue(clock)


@pytest.fixture
def tracker(queue: RecordingQueue, clock: Clock) -> InFlightTracker:
    return InFlightTracker(queue, VISIBILITY_SECONDS, max_hold_seconds=900, clock=clock)


def pass_time(tracker: InFlightTracker, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.now += 1
        tracker.extend_due()


def test_a_message_is_extended_at_every_third_of_the_timeout(
    tracker: InFlightTracker, queue: RecordingQueue, clock: Clock
) -> None:
    with tracker.track([message()]):
        pass_time(tracker, clock, 39)
        assert queue.extended == []
        pass_time(tracker, clock, 81)

    assert len(queue.extended) == 3
    assert queue.visibilities == {VISIBILITY_SECONDS}


def test_messages_are_extended_ten_at_a_time(
    tracker: InFlightTracker, queue: RecordingQueue, clock: Clock
) -> None:
    with tracker.track([message() for _ in range(23)]):
        pass_time(tracker, clock, 40)

    assert [len(call) for call in queue.extended] == [10, 10, 3]


def test_what_left_the_block_is_no_longer_extended(
    tracker: InFlightTracker, queue: RecordingQueue, clock: Clock
) -> None:
    with pytest.raises(ZeroDivisionError), tracker.track([message()]):
        raise ZeroDivisionError
    pass_time(tracker, clock, 60)

    assert queue.extended == []
    assert tracker.count == 0


def test_a_settled_message_is_no_longer_extended_and_its_neighbour_is(
    tracker: InFlightTracker, queue: RecordingQueue, clock: Clock
) -> None:
    settled, working = message(), message()
    with tracker.track([settled, working]):
        tracker.stop_extending(settled)
        assert tracker.count == 1
        pass_time(tracker, clock, 40)

    assert queue.extended == [[working.message_id]]


def test_stopping_to_extend_an_unknown_message_changes_nothing(tracker: InFlightTracker) -> None:
    tracker.stop_extending(message())

    assert tracker.count == 0


def test_a_lost_message_is_no_longer_held_or_extended(
    tracker: InFlightTracker, queue: RecordingQueue, clock: Clock
) -> None:
    lost, kept = message(), message()
    queue.lost = [lost]
    with tracker.track([lost, kept]):
        assert tracker.is_held(lost)
        pass_time(tracker, clock, 80)

        assert not tracker.is_held(lost)
        assert tracker.is_held(kept)

    assert queue.extended == [[lost.message_id, kept.message_id], [kept.message_id]]


def test_another_delivery_of_a_lost_message_is_held(
    tracker: InFlightTracker, queue: RecordingQueue, clock: Clock
) -> None:
    first = message(message_id="m", receipt_handle="first")
    second = message(message_id="m", receipt_handle="second")
    queue.lost = [first]
    with tracker.track([first]):
        pass_time(tracker, clock, 40)
        with tracker.track([second]):
            assert tracker.is_held(second)
            assert not tracker.is_held(first)


def test_a_stuck_message_is_given_up_and_told_once(
    tracker: InFlightTracker,
    queue: RecordingQueue,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck = message()
    with tracker.track([stuck]), caplog.at_level(logging.WARNING):
        pass_time(tracker, clock, 900)
        extensions = len(queue.extended)
        pass_time(tracker, clock, 300)

    assert len(queue.extended) == extensions
    assert [stuck.message_id in record.getMessage() for record in caplog.records] == [True]


def test_an_outage_is_told_once_and_the_extension_made_up_for_soon(
    tracker: InFlightTracker,
    queue: RecordingQueue,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with tracker.track([message()]), caplog.at_level(logging.INFO):
        queue.error = QueueUnavailable("memory", "connection refused")
        pass_time(tracker, clock, 50)
        queue.error = None
        pass_time(tracker, clock, 3)

    assert len(queue.extended) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_what_runs_out_first_is_extended_first(
    tracker: InFlightTracker, queue: RecordingQueue, clock: Clock
) -> None:
    early, late = message(), message()
    with tracker.track([late]):
        pass_time(tracker, clock, 10)
        with tracker.track([early]):
            queue.error = QueueUnavailable("memory", "connection refused")
            pass_time(tracker, clock, 45)
            queue.error = None
            pass_time(tracker, clock, 1)

    assert queue.extended == [[late.message_id, early.message_id]]


def test_a_short_timeout_is_extended_in_time() -> None:
    queue = InMemoryQueue(visibility_timeout_seconds=2)
    tracker = InFlightTracker(queue, visibility_timeout_seconds=2)
    queue.send("A")
    tracker.start()
    messages = queue.receive(1, 0)
    with tracker.track(messages):
        others = queue.receive(1, 4)
        still_held = tracker.is_held(messages[0])
    tracker.stop()

    assert others == []
    assert still_held


def test_the_thread_outlives_an_unexpected_error(
    queue: RecordingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = InFlightTracker(queue, visibility_timeout_seconds=2)
    queue.error = ZeroDivisionError()
    tracker.start()
    with tracker.track([message()]):
        wait_until(lambda: "ZeroDivisionError" in caplog.text)
        queue.error = None
        wait_until(lambda: bool(queue.extended))
    tracker.stop()


def test_no_call_extends_a_message_once_extending_was_stopped(clock: Clock) -> None:
    queue = SlowQueue(clock)
    tracker = InFlightTracker(queue, VISIBILITY_SECONDS, clock=clock)
    slow = message()
    with tracker.track([slow]):
        clock.now += 40
        extending = threading.Thread(target=tracker.extend_due)
        extending.start()
        queue.called.wait(10)
        threading.Timer(0.1, queue.may_respond.set).start()

        tracker.stop_extending(slow)

        assert queue.may_respond.is_set()
    extending.join(10)


def test_stopping_ends_the_thread_at_once(tracker: InFlightTracker) -> None:
    tracker.start()
    tracker.stop()

    assert "in-flight-tracker" not in {thread.name for thread in threading.enumerate()}


class SlowQueue(InMemoryQueue):
    """A queue that responds to an extension when told to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(VISIBILITY_SECONDS, clock)
        self.called = threading.Event()
        self.may_respond = threading.Event()

    def extend(self, messages: Sequence[Message], visibility_seconds: float) -> list[Message]:
        self.called.set()
        self.may_respond.wait(10)
        return []


def wait_until(happened: Callable[[], bool], within_seconds: float = 20.0) -> None:
    give_up_at = time.monotonic() + within_seconds
    while not happened():
        assert time.monotonic() < give_up_at, "did not happen"
        time.sleep(0.01)
