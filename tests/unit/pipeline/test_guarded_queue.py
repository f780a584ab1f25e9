"""While a queue refuses to settle, messages stay in hand; what it has confirmed is told."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Rejected, Released, RetryLater, Stored
from product_consumer.pipeline import circuit_breaker
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.pipeline.guarded_queue import GuardedQueue
from product_consumer.pipeline.hold import Hold
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue

REJECTED = Rejected("validate", "json_invalid", "why")


class PickyQueue(InMemoryQueue):
    """A queue that refuses the calls named in ``refuses``, and answers the others."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: set[str] = set()
        self.copies = 0

    def acknowledge(self, messages: Sequence[Message]) -> None:
        self._check("acknowledge")
        super().acknowledge(messages)

    def release(self, messages: Sequence[Message]) -> None:
        self._check("release")
        super().release(messages)

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        self._check("retry_later")
        super().retry_later(message, delay_seconds)

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        self._check("copy_rejected")
        self.copies += 1
        super().copy_rejected(message, rejected)

    def _check(self, call: str) -> None:
        if call in self.refuses:
            raise QueueUnavailable(self.label, f"{call} is denied")


class Rig:
    """A guarded queue with one received message per body."""

    def __init__(self, context: ProcessContext) -> None:
        self.context = context
        self.queue = PickyQueue()
        self.in_flight = InFlightTracker(self.queue, 30)
        self.guarded = GuardedQueue(self.queue, self.in_flight, context)

    def settle(self, *outcomes: Outcome) -> list[Outcome]:
        """Receive a message for each outcome, and settle them; return the confirmed outcomes."""
        for number in range(len(outcomes)):
            self.queue.send(f"body {number}")
        messages = self.guarded.receive(10, 0)
        with self.guarded.holding(messages):
            return [outcome for _, outcome in self.guarded.settle(messages, outcomes)]


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessContext]:
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(circuit_breaker, "MAX_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(circuit_breaker, "_POLL_SECONDS", 0.01)
    context = new_context(hold=Hold(0.4))
    yield context
    context.stopping.set()


@pytest.fixture
def rig(context: ProcessContext) -> Rig:
    return Rig(context)


def after(seconds: float, act: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def test_every_message_gets_its_one_end(rig: Rig) -> None:
    outcomes: list[Outcome] = [
        Stored("p1"),
        REJECTED,
        Released("down"),
        RetryLater(60, "fetch_image", "timeout"),
    ]

    assert set(rig.settle(*outcomes)) == set(outcomes)
    backlog = rig.queue.backlog()
    assert (backlog.visible, backlog.in_flight) == (1, 1)
    assert len(rig.queue.dead_letters) == 1


def test_a_message_that_the_queue_does_not_delete_stays_in_hand_until_it_does(rig: Rig) -> None:
    rig.queue.refuses = {"acknowledge"}
    after(0.15, rig.queue.refuses.clear)

    assert rig.settle(Stored("p1")) == [Stored("p1")]
    assert rig.queue.backlog().is_empty


def test_what_is_in_hand_stays_hidden_while_the_queue_refuses(rig: Rig) -> None:
    rig.queue.refuses = {"acknowledge"}
    held: list[int] = []
    after(0.15, lambda: held.append(rig.in_flight.count))
    rig.settle(Stored("p1"))

    assert held == [1]


def test_a_copy_is_sent_once_although_its_message_cannot_be_deleted(rig: Rig) -> None:
    rig.queue.refuses = {"acknowledge"}
    after(0.2, rig.queue.refuses.clear)

    assert rig.settle(REJECTED) == [REJECTED]
    assert rig.queue.copies == 1


def test_an_outcome_that_the_queue_never_confirmed_is_not_told(rig: Rig) -> None:
    rig.queue.refuses = {"acknowledge", "copy_rejected"}

    assert rig.settle(Stored("p1"), REJECTED) == []
    assert rig.queue.backlog().in_flight == 2


def test_nothing_is_received_while_the_queue_deletes_nothing(rig: Rig) -> None:
    rig.queue.send("waits")
    [first] = rig.guarded.receive(1, 0)
    rig.queue.send("next")
    rig.queue.refuses = {"acknowledge"}

    def settle() -> None:
        with rig.guarded.holding([first]):
            rig.guarded.settle([first], [Stored("p1")])

    settling = threading.Thread(target=settle)
    settling.start()
    while not rig.context.outages.states()["memory"]:
        time.sleep(0.005)
    after(0.1, rig.queue.refuses.clear)
    received = rig.guarded.receive(1, 0)
    settling.join()

    assert [message.body for message in received] == ["next"]
    assert rig.queue.backlog().in_flight == 1, "the first was deleted before the next was received"


def test_other_messages_go_on_while_copies_of_rejected_ones_are_refused(rig: Rig) -> None:
    rig.queue.send("bad")
    [bad] = rig.guarded.receive(1, 0)
    rig.queue.refuses = {"copy_rejected"}
    settled: list[list[Any]] = []

    def reject() -> None:
        with rig.guarded.holding([bad]):
            settled.append(rig.guarded.settle([bad], [REJECTED]))

    rejecting = threading.Thread(target=reject)
    rejecting.start()
    while not rig.context.outages.states()["memory dead-letter queue"]:
        time.sleep(0.005)
    assert rig.settle(Stored("p1")) == [Stored("p1")]

    rig.queue.refuses.clear()
    rejecting.join()
    assert settled == [[(bad, REJECTED)]]
    assert rig.queue.copies == 1


@pytest.mark.parametrize("call", ["release", "retry_later"])
def test_a_message_that_cannot_be_given_back_is_left_to_come_back(
    rig: Rig, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig.queue.refuses = {call}
    outcome = Released("down") if call == "release" else RetryLater(1, "fetch_image", "timeout")

    assert rig.settle(outcome, outcome, Stored("p1")) == [Stored("p1")]
    assert len([line for line in caplog.messages if "not given back" in line]) == 1


def test_a_queue_that_is_away_is_asked_again_until_it_answers(rig: Rig) -> None:
    rig.queue.send("body")
    rig.queue.available = False
    after(0.15, lambda: setattr(rig.queue, "available", True))

    assert len(rig.guarded.receive(1, 0)) == 1


def test_a_stop_ends_the_wait_for_a_queue_that_is_away(rig: Rig) -> None:
    rig.queue.available = False
    after(0.1, rig.context.stopping.set)

    assert rig.guarded.receive(1, 0) == []
