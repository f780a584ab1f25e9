"""What a consumer holds, how long it may, and who gets it then."""

from collections.abc import Iterator

import pytest

from tests.faults.rabbitmq.bench import Bench, bodies, receive, wait_for
from tests.support.rabbitmq_node import RabbitNode

pytestmark = pytest.mark.timeout(120, func_only=True)

CONSUMER_SECONDS = 3


@pytest.fixture
def impatient_node(rabbitmq_node: RabbitNode) -> Iterator[RabbitNode]:
    """A server that takes messages away from a consumer after a few seconds, not 30 minutes."""
    rabbitmq_node.set(consumer_timeout=CONSUMER_SECONDS * 1000, channel_tick_interval=1000)
    yield rabbitmq_node
    rabbitmq_node.set(consumer_timeout=1_800_000, channel_tick_interval=60_000)


def test_what_lies_in_a_buffer_goes_to_another_process_when_nobody_asks_for_it(
    any_bench: Bench,
) -> None:
    bench = any_bench
    idle, busy = bench.open(), bench.open()
    sent = [f"{number:02d}" for number in range(50)]
    bench.send(*sent)
    [held] = receive(idle)
    others = receive(busy, 49, within_seconds=10)

    assert bodies([held, *others]) == sent
    assert idle.extend([held], 60) == []
    idle.acknowledge([held])
    busy.acknowledge(others)
    bench.wait_until_empty()


def test_a_message_that_nobody_settles_goes_to_another_process_when_its_lease_ends(
    any_bench: Bench,
) -> None:
    bench = any_bench
    stuck, other = bench.open(lease_seconds=1), bench.open()
    bench.send("A")
    [forgotten] = receive(stuck)
    [again] = receive(other)

    assert (again.message_id, again.receive_count) == (forgotten.message_id, 2)
    assert stuck.extend([forgotten], 60) == [forgotten]
    stuck.acknowledge([forgotten])
    assert other.extend([again], 60) == []
    other.acknowledge([again])
    bench.wait_until_empty()


def test_the_servers_own_timeout_takes_the_receipts_and_costs_no_message(
    bench: Bench, impatient_node: RabbitNode
) -> None:
    """Versions up to 4.2 close the channel, later ones end the consumer."""
    queue = bench.open()
    bench.send("A", "B")
    held = receive(queue, 2)
    wait_for(lambda: queue.extend(held, 60) == held, CONSUMER_SECONDS + 10)
    queue.acknowledge(held)
    again = receive(queue, 2)
    queue.acknowledge(again)
    bench.wait_until_empty()

    assert bodies(again) == ["A", "B"]
    assert {message.receive_count for message in again} == {2}


def test_a_message_that_is_lost_too_often_becomes_a_dead_letter(
    rabbitmq_node: RabbitNode, bench: Bench
) -> None:
    bench.client.delete(bench.name)
    bench.set_up(max_receive_count=2)
    bench.send("A", message_id="a")
    for _ in range(3):
        dying = bench.open()
        receive(dying)
        dying.close()
    bench.client.wait_for(bench.dead, 1)

    [letter] = bench.dead_letters()
    assert (letter.body, letter.properties.message_id) == (b"A", "a")
    assert letter.headers["x-first-death-reason"] == "delivery_limit"
