"""Messages that are put off: when they come again, and what they remember."""

import time

import pytest

from product_consumer.queues.base import MessageQueue
from tests.faults.rabbitmq.bench import Bench, receive, wait_for

pytestmark = pytest.mark.timeout(120, func_only=True)

# Two of each magnitude, the longer of them first: it is in front of the shorter.
DELAYS = (1.9, 1.0, 3.9, 2.1)
LATE_SECONDS = 0.5


def put_off(queue: MessageQueue, delays: tuple[float, ...]) -> dict[str, float]:
    """Put off a message for each delay, named after it; return when each came again."""
    for message in receive(queue, len(delays)):
        queue.retry_later(message, float(str(message.body)))
    began_at = time.monotonic()
    came_at: dict[str, float] = {}
    while len(came_at) < len(delays):
        [message] = receive(queue)
        came_at[str(message.body)] = time.monotonic() - began_at
        queue.acknowledge([message])
    return came_at


def test_a_delay_is_kept_and_at_most_doubled(any_bench: Bench) -> None:
    bench = any_bench
    queue = bench.open()
    bench.send(*map(str, DELAYS))

    came_at = put_off(queue, DELAYS)

    for delay in DELAYS:
        # The clock of this test began after the last message was put off.
        assert delay - 0.3 <= came_at[str(delay)] <= max(2 * delay, 2.0) + LATE_SECONDS
    bench.wait_until_empty()
    assert queue.backlog().is_empty


def test_what_is_put_off_is_counted_as_delayed_and_remembers_its_past(any_bench: Bench) -> None:
    bench = any_bench
    queue = bench.open()
    bench.send("no id")
    [first] = receive(queue)
    queue.retry_later(first, 1)
    backlog = queue.backlog()
    [second] = receive(queue)
    queue.retry_later(second, 0)
    [third] = receive(queue)
    queue.acknowledge([third])

    assert (backlog.visible, backlog.in_flight, backlog.delayed) == (0, 0, 1)
    assert [message.receive_count for message in (first, second, third)] == [1, 2, 3]
    assert first.message_id == second.message_id == third.message_id
    assert first.sent_at == second.sent_at == third.sent_at


def test_a_message_that_was_redriven_is_put_off_like_any_other(bench: Bench) -> None:
    """Version 3.10 drops what has died in its queue before, if a copy still says so."""
    death = {"queue": bench.name, "reason": "expired", "count": 1, "exchange": "", "time": None}
    retry = {"queue": f"{bench.name}-retry-1", "reason": "expired", "count": 1, "exchange": ""}
    queue = bench.open()
    bench.send("A", headers={"x-death": [death, retry], "x-first-death-queue": bench.name})
    [first] = receive(queue)
    queue.retry_later(first, 1)
    [second] = receive(queue)
    queue.retry_later(second, 1)
    [third] = receive(queue)
    queue.acknowledge([third])

    assert third.body == "A"


def test_a_retry_queue_that_is_missing_is_made(bench: Bench) -> None:
    bench.client.delete(f"{bench.name}-retry-1")
    queue = bench.open()
    bench.send("A")
    [message] = receive(queue)
    queue.retry_later(message, 1)
    [again] = receive(queue)
    queue.acknowledge([again])

    assert bench.client.exists(f"{bench.name}-retry-1")


def test_a_message_that_waits_survives_a_worker_that_is_gone(bench: Bench) -> None:
    first = bench.open()
    bench.send("A")
    [message] = receive(first)
    first.retry_later(message, 1)
    first.close()
    bench.client.wait_for(bench.name, 1)
    second = bench.open()
    [again] = receive(second)
    second.acknowledge([again])
    wait_for(lambda: second.backlog().is_empty)
