"""Real servers that answer reads and refuse writes: no message pays for it, in few log lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest
import sqlalchemy

from tests.acceptance.world import Worker, wait_until
from tests.faults.harness.order_world import OrderWorld
from tests.faults.harness.orders import order
from tests.faults.harness.recording import deliveries
from tests.faults.harness.workload import product
from tests.faults.harness.world import SOAK_SECONDS, FaultWorld

pytestmark = pytest.mark.timeout(170, func_only=True)

Refusal = Callable[[], AbstractContextManager[None]]


def locked_table(world: FaultWorld, table: str) -> Refusal:
    """PostgreSQL, while somebody holds a table for a report, a backup or a new index."""

    @contextmanager
    def refusing() -> Iterator[None]:
        engine = sqlalchemy.create_engine(world.database_url)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE MODE")
            yield
        engine.dispose()

    return refusing


def blocked_index(world: FaultWorld) -> Refusal:
    """Elasticsearch, while an index is blocked, as it is when a disk is nearly full."""

    @contextmanager
    def refusing() -> Iterator[None]:
        block = world.elasticsearch_client.indices.put_settings
        block(index=world.name, settings={"index.blocks.write": True})
        yield
        block(index=world.name, settings={"index.blocks.write": False})

    return refusing


def full_redis(world: OrderWorld) -> Refusal:
    """Redis without memory: everything but a write is answered."""

    @contextmanager
    def refusing() -> Iterator[None]:
        world.redis.config_set("maxmemory", "1")
        try:
            yield
        finally:
            world.redis.config_set("maxmemory", "0")

    return refusing


def lines_about_outages(worker: Worker) -> list[str]:
    marks = (" is down, ", " is still down ")
    return [line for line in worker.log.splitlines() if any(mark in line for mark in marks)]


def check_a_refusal(
    world: FaultWorld, worker: Worker, refusing: Refusal, send: Callable[[], None], seconds: float
) -> None:
    """Refuse writes for a while under work; the worker has consumed before."""
    with refusing():
        send()
        wait_until(lambda: bool(lines_about_outages(worker)), 30)
        time.sleep(seconds)
    world.wait_until_drained()
    world.stop(worker)

    minutes = int(seconds // 60)
    # The last minute may end with the outage.
    assert max(1, minutes) <= len(lines_about_outages(worker)) <= 1 + minutes
    # On RabbitMQ a message in hand is given back after a minute, once.
    if not world.queues.deliveries_of_an_outage:
        assert "released message" not in worker.log


@pytest.mark.parametrize("refusal", [blocked_index, lambda world: locked_table(world, "products")])
def test_a_store_that_refuses_products_costs_none_a_delivery(
    world: FaultWorld, refusal: Callable[[FaultWorld], Refusal]
) -> None:
    worker = world.start()
    world.send_all([product(f"p{number}", 1, world.images_url) for number in range(20)])
    world.wait_for_event("acknowledge_done")

    def send() -> None:
        world.send_all([product(f"p{number}", 2, world.images_url) for number in range(20)])

    check_a_refusal(world, worker, refusal(world), send, seconds=2)

    assert max(deliveries(world.events()).values()) <= 1 + world.queues.deliveries_of_an_outage
    assert world.verdict() == []


@pytest.mark.parametrize(
    "refusal", [full_redis, lambda world: locked_table(world, "orders")], ids=["redis", "ledger"]
)
def test_a_dependency_that_refuses_orders_costs_none_a_delivery(
    order_world: OrderWorld, refusal: Callable[[OrderWorld], Refusal]
) -> None:
    check_refused_orders(order_world, refusal(order_world), seconds=2)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_a_redis_without_memory_for_fifteen_minutes_costs_no_order_a_delivery(
    order_world: OrderWorld,
) -> None:
    """SQS would have moved a message that is released once a minute after twelve receives."""
    check_refused_orders(order_world, full_redis(order_world), seconds=900)


def check_refused_orders(world: OrderWorld, refusing: Refusal, seconds: float) -> None:
    worker = world.start()
    world.send_all([order(number, users=7) for number in range(20)])
    world.wait_for_event("order_acknowledge_done")

    def send() -> None:
        world.send_all([order(number, users=7) for number in range(100, 120)])

    check_a_refusal(world, worker, refusing, send, seconds)

    most = 1 + world.queues.deliveries_of_an_outage
    assert max(deliveries(world.order_events()).values()) <= most
    assert world.verdict() == []


def test_a_locked_sqlite_file_costs_no_order_a_delivery(order_world: OrderWorld) -> None:
    path = order_world.data_dir / "products.db"
    order_world.environment["DATABASE_URL"] = f"sqlite:///{path}"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")

    @contextmanager
    def locking() -> Iterator[None]:
        with closing(engine.raw_connection()) as connection:
            connection.cursor().execute("BEGIN IMMEDIATE")
            yield
            connection.rollback()

    worker = order_world.start()
    order_world.wait_until_polling(worker)
    check_a_refusal(
        order_world,
        worker,
        locking,
        lambda: order_world.send_all([order(number, users=7) for number in range(20)]),
        seconds=2,
    )

    most = 1 + order_world.queues.deliveries_of_an_outage
    assert max(deliveries(order_world.order_events()).values()) <= most
    engine.dispose()
