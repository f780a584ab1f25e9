"""Events that meet in an order which hardly ever happens by itself."""

import threading
import time

import pytest

from product_consumer.errors import QueueUnavailable
from tests.faults.harness.toxiproxy import DOWNSTREAM, UPSTREAM, Proxy
from tests.faults.rabbitmq.bench import Bench, bodies, receive, reject, reject_at_last, wait_for

pytestmark = pytest.mark.timeout(120, func_only=True)


def test_a_confirmation_that_a_cut_swallows_costs_a_second_copy_and_no_message(
    any_bench: Bench, proxy: Proxy, proxy_port: int
) -> None:
    bench = any_bench
    queue = bench.open(port=proxy_port)
    bench.send("A", message_id="a")
    [message] = receive(queue)
    failures: list[QueueUnavailable] = []

    def try_to_reject() -> None:
        try:
            reject(queue, message)
        except QueueUnavailable as error:
            failures.append(error)

    rejecting = threading.Thread(target=try_to_reject)
    proxy.add("timeout", DOWNSTREAM, timeout=0)
    rejecting.start()
    bench.client.wait_for(bench.dead, 1)
    with proxy.down():
        rejecting.join(20)
    proxy.heal()
    [again] = receive(queue)
    reject_at_last(queue, again)
    bench.wait_until_empty()

    assert len(failures) == 1
    assert (again.message_id, again.receive_count) == ("a", 2)
    letters = bench.dead_letters()
    assert [letter.body for letter in letters] == [b"A", b"A"]
    assert [letter.headers["message_id"] for letter in letters] == ["a", "a"]


def test_an_acknowledgement_that_a_cut_swallows_brings_the_message_again(
    any_bench: Bench, proxy: Proxy, proxy_port: int
) -> None:
    bench = any_bench
    queue = bench.open(port=proxy_port)
    bench.send(*"ABC")
    held = receive(queue, 3)
    with proxy.toxic("timeout", UPSTREAM, timeout=0):
        queue.acknowledge(held)
        with proxy.down():
            wait_for(lambda: bench.counts().unacknowledged == 0)
    again = receive(queue, 3)
    queue.acknowledge(held)
    queue.acknowledge(again)
    bench.wait_until_empty()

    assert bodies(again) == [*"ABC"]
    assert {message.receive_count for message in again} == {2}


def test_a_lease_that_ends_while_its_acknowledgement_is_on_the_way_harms_no_other_message(
    any_bench: Bench,
) -> None:
    """An acknowledgement of a tag that was given back would close the channel."""
    bench = any_bench
    queue = bench.open(lease_seconds=1.0)
    bench.send("kept", *(f"{number:02d}" for number in range(60)))
    [kept] = receive(queue)
    queue.extend([kept], 60)
    leased = receive(queue, 60)
    began_at = time.monotonic()
    for position, message in enumerate(leased):
        # From a moment before the leases end to a moment after the last was given back.
        due_at = began_at + 0.85 + position * 0.015
        wait_for(lambda due_at=due_at: time.monotonic() >= due_at)  # type: ignore[misc]
        queue.acknowledge([message])

    assert queue.extend([kept], 60) == []
    queue.acknowledge([kept])
    came_again = 0
    while bench.counts().ready or bench.counts().unacknowledged or bench.client.count(bench.name):
        again = queue.receive(10, 1)
        queue.acknowledge(again)
        came_again += len(again)
    assert 0 < came_again < 60


def test_a_queue_that_is_deleted_takes_its_receipts_along_and_is_consumed_when_it_is_back(
    any_bench: Bench,
) -> None:
    bench = any_bench
    is_quorum = bench.client.exists(f"{bench.name}-retry-1")
    queue = bench.open()
    bench.send("A", "B")
    held = receive(queue, 2)
    bench.client.delete(bench.name)
    wait_for(lambda: queue.extend(held, 60) == held)
    wait_for(lambda: _is_unavailable(queue))
    queue.acknowledge(held[:1])
    queue.release(held[1:])
    (bench.set_up if is_quorum else bench.set_up_classic)()
    bench.send("C")
    [new] = receive(queue, within_seconds=30)
    queue.acknowledge(held)
    assert queue.extend([new], 60) == []
    queue.acknowledge([new])
    bench.wait_until_empty()

    assert new.body == "C"


def _is_unavailable(queue: object) -> bool:
    try:
        queue.receive(10, 0)  # type: ignore[attr-defined]
    except QueueUnavailable:
        return True
    return False
