"""A queue on RabbitMQ in random orders of calls, cuts and restarts, beside a model of its promises.

The model knows each message by its body. A cut may undo what was settled just before it, so such a
message may come again, and a copy of one may stand beside the original: nothing else may happen.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.queues.base import MessageQueue
from tests.faults.harness.toxiproxy import Proxy
from tests.faults.rabbitmq.bench import Bench, receive, reject_at_last, wait_for
from tests.support.rabbitmq_node import Counts

pytestmark = pytest.mark.timeout(600, func_only=True)

numbers = st.integers(0, 99)


class QueueMachine(RuleBasedStateMachine):
    """One worker's queue behind a network that is cut; set ``bench`` and ``proxy_port`` first."""

    bench: Bench
    proxy: Proxy
    proxy_port: int
    sent = 0

    def __init__(self) -> None:
        super().__init__()
        self.queue = self.open()
        self.waiting: set[str] = set()
        """Neither held nor settled: they must come."""
        self.held: dict[str, Message] = {}
        self.stale: list[Message] = []
        self.settling: set[str] = set()
        """Settled since the server last answered: a cut may bring them again."""
        self.may_come: set[str] = set()
        self.counts: dict[str, int] = {}

    def open(self) -> MessageQueue:
        return self.bench.open(port=self.proxy_port)

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        for _ in range(count):
            QueueMachine.sent += 1
            body = f"m{QueueMachine.sent}"
            self.bench.send(body, message_id=body)
            self.waiting.add(body)

    @rule(count=st.integers(1, 5))
    def receive(self, count: int) -> None:
        with contextlib.suppress(QueueUnavailable):
            self.take(self.queue.receive(count, 1 if self.waiting else 0))

    @precondition(lambda self: self.held)
    @rule(pick=numbers)
    def acknowledge(self, pick: int) -> None:
        message = self.pick(pick)
        self.queue.acknowledge([message])
        self.settled(message)

    @precondition(lambda self: self.held)
    @rule(pick=numbers)
    def release(self, pick: int) -> None:
        message = self.pick(pick)
        self.queue.release([message])
        self.waiting.add(str(message.body))

    @precondition(lambda self: self.held)
    @rule(pick=numbers, seconds=st.sampled_from([0.0, 0.5, 1.0]))
    def retry(self, pick: int, seconds: float) -> None:
        message = self.pick(pick)
        wait_for(lambda: self.has_retried(message, seconds))
        # The copy comes; the original may come beside it, if a cut swallows its acknowledgement.
        self.settled(message)
        self.waiting.add(str(message.body))

    @precondition(lambda self: self.held)
    @rule(pick=numbers)
    def reject(self, pick: int) -> None:
        message = self.pick(pick)
        reject_at_last(self.queue, message)
        self.settled(message)

    @precondition(lambda self: self.held)
    @rule(pick=numbers)
    def settle_twice(self, pick: int) -> None:
        message = self.pick(pick)
        self.queue.acknowledge([message, message])
        self.queue.acknowledge([message])
        self.settled(message)

    @precondition(lambda self: self.stale)
    @rule(pick=numbers)
    def settle_what_is_lost(self, pick: int) -> None:
        message = self.stale[pick % len(self.stale)]
        self.queue.acknowledge([message])
        self.queue.release([message])
        self.queue.retry_later(message, 0)
        assert self.queue.extend([message], 60) == [message]

    @rule()
    def extend(self) -> None:
        assert self.queue.extend(list(self.held.values()), 60) == []

    @rule()
    def count(self) -> None:
        with contextlib.suppress(QueueUnavailable):
            self.queue.backlog()
            self.settling.clear()

    @rule()
    def cut(self) -> None:
        held = list(self.held.values())
        with self.proxy.down():
            wait_for(self.is_unavailable)
        self.lose()
        assert self.queue.extend(held, 60) == held

    @rule()
    def restart(self) -> None:
        self.queue.close()
        self.lose()
        # Receipts of another object mean nothing, even where their numbers are the same.
        self.queue = self.open()

    def pick(self, number: int) -> Message:
        return self.held.pop(sorted(self.held)[number % len(self.held)])

    def settled(self, message: Message) -> None:
        self.settling.add(str(message.body))

    def lose(self) -> None:
        """Everything in hand comes again; what was settled a moment ago may."""
        self.stale += self.held.values()
        self.waiting |= self.held.keys()
        self.held.clear()
        self.may_come |= self.settling
        self.settling.clear()

    def take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            body = str(message.body)
            assert body in self.waiting | self.may_come, f"{body} came again"
            assert message.message_id == body
            assert message.receive_count > self.counts.get(body, 0) or body in self.may_come
            self.counts[body] = message.receive_count
            self.waiting.discard(body)
            if body in self.held:
                # A copy beside its original: one of the two is enough.
                self.queue.acknowledge([message])
            else:
                self.held[body] = message

    def has_retried(self, message: Message, seconds: float) -> bool:
        with contextlib.suppress(QueueUnavailable):
            self.queue.retry_later(message, seconds)
            return True
        return False

    def is_unavailable(self) -> bool:
        with contextlib.suppress(QueueUnavailable):
            self.queue.probe()
            return False
        return True

    def teardown(self) -> None:
        """Everything that must come does, and nothing is left."""
        self.queue.acknowledge(list(self.held.values()))
        self.held.clear()
        while self.waiting:
            self.take(receive(self.queue, 1))
            self.queue.acknowledge(list(self.held.values()))
            self.held.clear()
        while not self.is_empty():
            with contextlib.suppress(QueueUnavailable):
                self.take(self.queue.receive(10, 1))
                self.queue.acknowledge(list(self.held.values()))
                self.held.clear()
        self.queue.close()

    def is_empty(self) -> bool:
        counts = self.bench.server.counts()
        mine = [name for name in counts if name.startswith(self.bench.name)]
        left = [name for name in mine if name != self.bench.dead and counts[name] != Counts(0, 0)]
        return not left and self.bench.client.count(self.bench.name) == 0


@pytest.fixture
def machine(bench: Bench, proxy: Proxy, proxy_port: int) -> Iterator[type[QueueMachine]]:
    QueueMachine.bench, QueueMachine.proxy = bench, proxy
    QueueMachine.proxy_port = proxy_port
    yield QueueMachine


@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.soak)])
def test_whatever_is_called_in_whatever_order_no_message_is_lost_or_comes_for_no_reason(
    machine: type[QueueMachine], count: int, tmp_path: Path
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
