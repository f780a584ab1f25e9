"""Orders count once and Redis is right, whatever happens to workers, queue, ledger or Redis.

Each kind of fault has one short test; the others, and longer ones, run with the soak.
"""

import random
import time

import pytest

from tests.faults.harness.checker import failures_of, polls_while_down
from tests.faults.harness.order_world import OrderWorld
from tests.faults.harness.orders import order, order_workload, poison_order
from tests.faults.harness.recording import deliveries
from tests.faults.harness.workload import workload
from tests.faults.harness.world import SOAK_SECONDS, kill_at_random

pytestmark = pytest.mark.timeout(170, func_only=True)

NOTICED_SECONDS = 2.0
SLOW_STEPS = (
    *("before_order_record", "before_redis", "after_redis"),
    *("before_acknowledge", "before_reject", "after_reject"),
)
# Each waits for a redelivery; after the short one the order counts and Redis does not have it.
STEPS = (
    "after_order_record",
    *(pytest.param(step, marks=pytest.mark.soak) for step in SLOW_STEPS),
)


def test_two_workers_count_a_workload_once(order_world: OrderWorld) -> None:
    order_world.send_all(order_workload(300, seed=1))
    with order_world.observed():
        workers = [order_world.start(), order_world.start()]
        order_world.wait_until_drained()
        order_world.stop(*workers)

    assert order_world.verdict() == []


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_counts_no_order_twice_and_loses_none(
    order_world: OrderWorld, step: str
) -> None:
    orders = [order(number, users=3) for number in range(5)]
    order_world.send_all([*orders, poison_order("order_total", 0)])
    dying = order_world.start(fault=f"crash:{step}")
    order_world.wait_for_crash(dying)
    worker = order_world.start()
    order_world.wait_until_drained()
    order_world.stop(worker)

    assert order_world.verdict() == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_kills_at_random_moments_count_every_order_once(order_world: OrderWorld) -> None:
    messages = order_workload(600, seed=2)
    with order_world.observed():
        workers = kill_at_random(order_world, messages, 6, order_world.start, seed=3)
        order_world.wait_until_drained()
        order_world.stop(*workers)

    assert order_world.verdict() == []


def storm(world: OrderWorld, orders: int, copies: int) -> None:
    messages = [order(number, users=orders // 5) for number in range(orders)] * copies
    random.Random(copies).shuffle(messages)
    world.send_all(messages)
    workers = [world.start(), world.start()]
    world.wait_until_drained()
    world.stop(*workers)

    assert world.verdict() == []


def test_a_storm_of_duplicates_counts_every_order_once(order_world: OrderWorld) -> None:
    storm(order_world, orders=25, copies=12)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_a_long_storm_of_duplicates_counts_every_order_once(order_world: OrderWorld) -> None:
    storm(order_world, orders=500, copies=20)


@pytest.mark.soak
def test_a_late_duplicate_changes_nothing(order_world: OrderWorld) -> None:
    orders = [order(number, users=4) for number in range(20)]
    order_world.send_all(orders)
    early = order_world.start()
    order_world.wait_until_drained()
    order_world.stop(early)
    order_world.send_all(orders[:10])
    late = order_world.start()
    order_world.wait_until_drained()
    order_world.stop(late)

    assert order_world.verdict() == []


def check_an_outage(world: OrderWorld, dependency: str, count: int, seconds: float) -> None:
    workers = [world.start(), world.start()]
    for worker in workers:
        world.wait_until_polling(worker)
    world.send_all(order_workload(count, seed=count))
    world.wait_for_event("order_acknowledge", count=5)
    down_at = time.monotonic()
    with world.proxies[dependency].down():
        world.send_all([order(number, users=7, seed=9) for number in range(count // 10)])
        time.sleep(seconds)
        back_at = time.monotonic()
    world.wait_until_drained()
    world.stop(*workers)

    events = world.order_events()
    assert failures_of(events, dependency, down_at), "the outage hit nobody"
    assert polls_while_down(events, dependency, down_at, back_at, NOTICED_SECONDS) == []
    assert max(deliveries(events).values()) <= 2
    assert world.verdict() == []


def test_an_outage_costs_no_order_and_ends_by_itself(order_world: OrderWorld) -> None:
    check_an_outage(order_world, "redis", count=200, seconds=4)


@pytest.mark.soak
@pytest.mark.parametrize("dependency", ["redis", "order_ledger"])
def test_a_dependency_that_answers_reads_and_refuses_writes_costs_no_order_a_delivery(
    order_world: OrderWorld, dependency: str
) -> None:
    worker = order_world.start(fault=f"refuse:{dependency}")
    order_world.wait_until_polling(worker)
    with order_world.history.refusing():
        order_world.send_all([order(number, users=7) for number in range(50)])
        order_world.wait_for_event("write_failed", count=3)
    order_world.wait_until_drained()
    order_world.stop(worker)

    most = 1 + order_world.queues.deliveries_of_an_outage
    assert max(deliveries(order_world.order_events()).values()) <= most
    assert order_world.verdict() == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
@pytest.mark.parametrize("seconds", [5, 20])
@pytest.mark.parametrize("dependency", ["redis", "ledger"])
def test_a_longer_outage_costs_no_order(
    order_world: OrderWorld, dependency: str, seconds: float
) -> None:
    check_an_outage(order_world, dependency, count=1000, seconds=seconds)


def test_a_redis_outage_does_not_hold_up_products(mixed_world: OrderWorld) -> None:
    world = mixed_world
    worker = world.start()
    world.wait_until_polling(worker)
    with world.proxies["redis"].down():
        world.send_all([order(number, users=2) for number in range(10)])
        world.send_all(workload(30, world.images_url, seed=4))
        world.wait_for_event("order_write_failed")
        world.wait_for_event("acknowledge_done")
    world.wait_until_drained()
    world.stop(worker)

    assert world.verdict() == []


@pytest.mark.soak
def test_a_redis_that_is_wiped_during_the_work_is_filled_again(order_world: OrderWorld) -> None:
    before = order_workload(200, seed=5)
    after = [order(number, users=5, seed=6) for number in range(50)]
    workers = [order_world.start(), order_world.start()]
    with order_world.observed():
        order_world.send_all(before)
        order_world.wait_for_event("order_acknowledge", count=5)
        order_world.wipe_redis()
        order_world.send_all(after)
        order_world.wait_until_drained()
        order_world.wait_until_redis_is_right()
        order_world.stop(*workers)

    assert order_world.verdict() == []


def test_a_redis_that_is_wiped_while_nothing_comes_is_filled_again(order_world: OrderWorld) -> None:
    worker = order_world.start()
    order_world.send_all(order_workload(100, seed=7))
    order_world.wait_until_drained()
    order_world.wipe_redis()
    order_world.wait_until_redis_is_right()
    order_world.stop(worker)

    assert order_world.verdict() == []


@pytest.mark.soak
def test_a_redis_that_is_wiped_while_nobody_works_is_rebuilt_by_hand(
    order_world: OrderWorld,
) -> None:
    worker = order_world.start()
    order_world.send_all(order_workload(100, seed=8))
    order_world.wait_until_drained()
    order_world.stop(worker)
    order_world.wipe_redis()

    rebuilt = order_world.run_console("rebuild-stats")

    assert rebuilt.returncode == 0, rebuilt.stderr
    assert order_world.verdict() == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_connections_that_are_reset_count_no_order_twice(order_world: OrderWorld) -> None:
    workers = [order_world.start(), order_world.start()]
    for worker in workers:
        order_world.wait_until_polling(worker)
    order_world.send_all(order_workload(600, seed=9))
    for dependency in ("queue", "ledger", "redis"):
        with order_world.proxies[dependency].toxic("reset_peer", timeout=200):
            time.sleep(1.5)
    order_world.wait_until_drained()
    order_world.stop(*workers)

    assert order_world.verdict(responses_were_lost=True) == []
