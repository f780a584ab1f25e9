"""A server that stops, crashes, freezes or runs out of memory while a worker holds messages."""

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

from product_consumer.errors import QueueUnavailable
from product_consumer.queues.base import MessageQueue
from tests.faults.rabbitmq.bench import REJECTED, Bench, bodies, receive, reject, wait_for
from tests.support.rabbitmq_node import RabbitNode

pytestmark = pytest.mark.timeout(120, func_only=True)

THREADS = 10


def stop_and_start_the_application(node: RabbitNode) -> None:
    node.ctl("stop_app")
    node.ctl("start_app")


def crash_and_start(node: RabbitNode) -> None:
    node.kill()
    node.start()


def close_all_connections(node: RabbitNode) -> None:
    node.ctl("close_all_connections", "a test")


FAULTS = {
    "closed": close_all_connections,
    "stopped": stop_and_start_the_application,
    "crashed": crash_and_start,
}


def faults(in_short: str) -> pytest.MarkDecorator:
    """All faults; the short run has one of them."""
    cases = [
        pytest.param(fault, id=name, marks=[] if name == in_short else pytest.mark.soak)
        for name, fault in FAULTS.items()
    ]
    return pytest.mark.parametrize("fault", cases)


@faults(in_short="closed")
def test_what_was_held_comes_again_and_its_old_receipt_settles_nothing(
    bench: Bench, rabbitmq_node: RabbitNode, fault: Callable[[RabbitNode], None]
) -> None:
    """Each generation of a connection counts its deliveries from 1: the same tag, another one."""
    queue = bench.open()
    bench.send("A")
    [old] = receive(queue)
    fault(rabbitmq_node)
    [new] = receive(queue)

    assert (new.body, new.message_id, new.receive_count) == ("A", old.message_id, 2)
    assert queue.extend([old, new], 60) == [old]
    queue.acknowledge([old])
    queue.release([old])
    queue.retry_later(old, 0)
    wait_for(lambda: bench.counts().unacknowledged == 1)
    queue.acknowledge([new])
    bench.wait_until_empty()


class Settling:
    """Ten threads that receive and acknowledge, as consumers do, until they are told to stop."""

    def __init__(self, queue: MessageQueue) -> None:
        self.seen: set[str] = set()
        self.failures: list[str] = []
        self._queue = queue
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                messages = self._queue.receive(10, 1)
                self.seen |= {str(message.body) for message in messages}
                self._queue.acknowledge(messages)
            except QueueUnavailable:
                self._stopping.wait(0.1)
            except Exception as error:
                self.failures.append(repr(error))


@faults(in_short="crashed")
def test_ten_threads_that_settle_meanwhile_lose_nothing_and_do_not_end(
    bench: Bench, rabbitmq_node: RabbitNode, fault: Callable[[RabbitNode], None]
) -> None:
    sent = [f"{number:05d}" for number in range(3_000)]
    bench.client.publish_many(bench.name, [body.encode() for body in sent])
    settling = Settling(bench.open())
    wait_for(lambda: len(settling.seen) >= 300)
    fault(rabbitmq_node)
    bench.send("after")
    bench.wait_until_empty(60)
    settling.stop()

    assert settling.failures == []
    assert settling.seen == {*sent, "after"}


def test_a_stopped_server_is_told_as_an_outage_and_bounded(
    bench: Bench, rabbitmq_node: RabbitNode
) -> None:
    queue = bench.open()
    bench.send("A", "B")
    held = receive(queue, 2)
    rabbitmq_node.ctl("stop_app")
    calls: tuple[Callable[[], object], ...] = (
        lambda: queue.receive(10, 1),
        lambda: queue.copy_rejected(held[0], REJECTED),
        lambda: queue.retry_later(held[1], 1),
        queue.probe,
        queue.backlog,
    )
    for call in calls:
        started_at = time.monotonic()
        with contextlib.suppress(QueueUnavailable):
            call()
        assert time.monotonic() - started_at < 15
    with pytest.raises(QueueUnavailable):
        queue.probe()
    rabbitmq_node.ctl("start_app")

    assert bodies(receive(queue, 2)) == ["A", "B"]


@pytest.mark.soak
def test_a_server_that_answers_no_more_is_noticed_by_its_silence(
    bench: Bench, rabbitmq_node: RabbitNode
) -> None:
    queue = bench.open(query="&heartbeat=2")
    bench.send("A")
    [held] = receive(queue)
    rabbitmq_node.pause()
    try:
        wait_for(lambda: queue.extend([held], 60) == [held], 30)
        with pytest.raises(QueueUnavailable):
            queue.receive(10, 1)
    finally:
        rabbitmq_node.resume()

    [again] = receive(queue, within_seconds=40)
    queue.acknowledge([again])
    bench.wait_until_empty()


def test_acknowledgements_go_on_under_a_memory_alarm(
    bench: Bench, rabbitmq_node: RabbitNode
) -> None:
    queue = bench.open()
    bench.send(*"ABCDEFGHIJ")
    held = receive(queue, 10)
    reject(queue, held.pop())
    with rabbitmq_node.memory_alarm():
        queue.acknowledge(held)
        bench.wait_until_empty()


def test_a_reject_under_a_memory_alarm_waits_bounded_and_settles_nothing(
    bench: Bench, rabbitmq_node: RabbitNode
) -> None:
    queue = bench.open()
    bench.send("A")
    [message] = receive(queue)
    with rabbitmq_node.memory_alarm():
        started_at = time.monotonic()
        with pytest.raises(QueueUnavailable):
            reject(queue, message)
        waited_seconds = time.monotonic() - started_at
        assert bench.counts().unacknowledged == 1
    reject(queue, message)
    bench.wait_until_empty()

    assert waited_seconds < 20
    # The copy that was not confirmed may have arrived, too.
    assert {letter.body for letter in bench.dead_letters()} == {b"A"}
