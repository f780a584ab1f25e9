"""Whole workers on RabbitMQ that are killed, stopped and cut off: the share that always runs.

With the long tests every test of ``tests/faults`` runs on RabbitMQ, too.
"""

import random
import signal
import time

import pytest

from tests.faults.harness.order_world import OrderWorld
from tests.faults.harness.orders import order, order_workload, poison_order
from tests.faults.harness.world import SOAK_SECONDS
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


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_thousands_of_orders_count_once_while_server_network_and_workers_fail(
    order_world: OrderWorld, rabbitmq_node: RabbitNode
) -> None:
    world = order_world
    workers = [world.start(), world.start()]

    def replace_a_worker() -> None:
        world.kill(workers.pop(0))
        workers.append(world.start())

    def cut_the_network() -> None:
        with world.proxies["queue"].down():
            time.sleep(3)

    def stop_the_server() -> None:
        rabbitmq_node.ctl("stop_app")
        time.sleep(3)
        rabbitmq_node.ctl("start_app")

    def crash_the_server() -> None:
        rabbitmq_node.kill()
        replace_a_worker()
        rabbitmq_node.start()

    faults = (replace_a_worker, cut_the_network, stop_the_server, crash_the_server) * 2
    messages = order_workload(4_000, seed=12)
    size = -(-len(messages) // len(faults))
    for position, fault in enumerate(faults):
        world.send_all(messages[position * size : (position + 1) * size])
        world.wait_for_event("order_acknowledge", count=20 * (position + 1))
        fault()
    world.stop(*workers)
    world.arguments = [*world.arguments, "--until-empty"]
    last = world.start()
    assert world.wait_for_exit(last, 300) == 0, last.log

    assert world.left_in_queue() == 0
    assert world.verdict(responses_were_lost=True) == []
