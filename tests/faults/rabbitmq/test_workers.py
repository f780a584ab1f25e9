"""Whole workers on RabbitMQ that are killed, stopped and cut off: the share that always runs.

With the long tests every test of ``tests/faults`` runs on RabbitMQ, too.
"""

import random
import signal

import pytest

from tests.faults.harness.order_world import OrderWorld
from tests.faults.harness.orders import order, order_workload, poison_order
from tests.support.rabbitmq_node import RabbitNode

pytestmark = pytest.mark.timeout(170, func_only=True)

POINTS = (
    "after_receive",
    "after_order_record",
    "before_acknowledge",
    "after_acknowledge",
    "before_reject",
    "during_reject",
    "after_reject",
)


@pytest.fixture
def queue_server(rabbitmq_node: RabbitNode) -> RabbitNode:
    return rabbitmq_node


def test_a_death_at_any_step_between_queue_and_ledger_costs_no_order(
    order_world: OrderWorld,
) -> None:
    for number, point in enumerate(POINTS):
        dying = order_world.start(fault=f"crash:{point}", threads=1)
        orders = [order(100 * number + position, users=3) for position in range(5)]
        order_world.send_all([*orders, orders[0], poison_order("order_total", number)])
        order_world.wait_for_crash(dying)
    worker = order_world.start()
    order_world.wait_until_drained()
    order_world.stop(worker)

    crashes = [event["where"] for event in order_world.events() if event.kind == "crash"]
    assert crashes == list(POINTS)
    assert order_world.verdict() == []


def test_a_storm_of_orders_counts_each_once_while_workers_and_connections_end(
    order_world: OrderWorld, rabbitmq_node: RabbitNode
) -> None:
    messages = order_workload(300, seed=11) * 2
    random.Random(11).shuffle(messages)
    stopped, killed = order_world.start(), order_world.start()
    order_world.send_all(messages)
    order_world.wait_for_event("order_acknowledge", count=5)
    order_world.kill(killed)
    rabbitmq_node.ctl("close_all_connections", "a test")
    with order_world.proxies["queue"].toxic("reset_peer", timeout=100):
        stopped.send_signal(signal.SIGTERM)
        assert order_world.wait_for_exit(stopped) == 0, stopped.log
    last = order_world.start()
    order_world.wait_until_drained()
    order_world.stop(last)

    assert order_world.verdict(responses_were_lost=True) == []
