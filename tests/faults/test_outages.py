"""Dependencies that go away, get slow or break their connections, under load."""

import signal
import time

import pytest

from tests.acceptance.world import Worker
from tests.faults.harness.checker import failures_of, lost_leases, polls_while_down
from tests.faults.harness.recording import deliveries
from tests.faults.harness.toxiproxy import DOWNSTREAM, UPSTREAM
from tests.faults.harness.workload import product, workload
from tests.faults.harness.world import SOAK_SECONDS, FaultWorld

pytestmark = pytest.mark.timeout(170, func_only=True)

STORES = ("milvus", "elasticsearch", "ledger")
NOTICED_SECONDS = 2.0
TOXICS: dict[str, dict[str, int]] = {
    "latency": {"latency": 800, "jitter": 400},
    "timeout": {"timeout": 1000},
    "reset_peer": {"timeout": 200},
    "slow_close": {"delay": 1500},
    "limit_data": {"bytes": 3000},
    "bandwidth": {"rate": 10},
    "slicer": {"average_size": 64, "size_variation": 32, "delay": 2000},
}


def under_load(world: FaultWorld, count: int) -> list[Worker]:
    """Two workers in the middle of a workload."""
    workers = [world.start(), world.start()]
    for worker in workers:
        world.wait_until_polling(worker)
    world.send_all(workload(count, world.images_url, seed=count))
    world.wait_for_event("acknowledge", count=5)
    return workers


def check_an_outage(world: FaultWorld, store: str, count: int, seconds: float) -> None:
    workers = under_load(world, count)
    down_at = time.monotonic()
    with world.proxies[store].down():
        time.sleep(seconds)
        back_at = time.monotonic()
    world.wait_until_drained()
    world.stop(*workers)

    events = world.events()
    assert failures_of(events, store, down_at), "the outage hit nobody"
    assert polls_while_down(events, store, down_at, back_at, NOTICED_SECONDS) == []
    assert max(deliveries(events).values()) <= 2
    assert world.unexpected_errors() == []
    assert world.verdict() == []


@pytest.mark.parametrize(
    "store", ["milvus", *(pytest.param(name, marks=pytest.mark.soak) for name in STORES[1:])]
)
def test_a_store_outage_costs_no_message_and_ends_by_itself(world: FaultWorld, store: str) -> None:
    check_an_outage(world, store, count=500, seconds=5)


# The others are refused by real servers, in test_refused_writes.py.
@pytest.mark.parametrize(
    "store", ["milvus", *(pytest.param(name, marks=pytest.mark.soak) for name in STORES[1:])]
)
def test_a_store_that_answers_reads_and_refuses_writes_costs_no_message_a_delivery(
    world: FaultWorld, store: str
) -> None:
    workers = [world.start(fault=f"refuse:{store}") for _ in range(2)]
    for worker in workers:
        world.wait_until_polling(worker)
    with world.history.refusing():
        refused_at = time.monotonic()
        world.send_all(workload(100, world.images_url, seed=6))
        world.wait_for_event("write_failed", count=3)
        time.sleep(3)
        taken_at = time.monotonic()
    world.wait_until_drained()
    world.stop(*workers)

    events = world.events()
    assert polls_while_down(events, store, refused_at, taken_at, NOTICED_SECONDS) == []
    assert max(deliveries(events).values()) <= 1 + world.queues.deliveries_of_an_outage
    assert world.unexpected_errors() == []
    assert world.verdict() == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
@pytest.mark.parametrize("store", STORES)
def test_a_long_store_outage_costs_no_message(world: FaultWorld, store: str) -> None:
    check_an_outage(world, store, count=1000, seconds=20)


def test_a_queue_that_is_down_for_a_while_loses_nothing(world: FaultWorld) -> None:
    workers = under_load(world, 200)
    with world.proxies["queue"].down():
        time.sleep(6)
    world.wait_until_drained()
    world.stop(*workers)

    assert world.unexpected_errors() == []
    assert world.verdict(responses_were_lost=True) == []


def break_for_a_while(world: FaultWorld, dependency: str, kind: str, seconds: float) -> None:
    with world.proxies[dependency].toxic(kind, DOWNSTREAM, **TOXICS[kind]):
        time.sleep(seconds)


@pytest.mark.soak
def test_connections_that_are_reset_lose_nothing(world: FaultWorld) -> None:
    workers = under_load(world, 300)
    for dependency in world.proxies:
        break_for_a_while(world, dependency, "reset_peer", 1.5)
    world.wait_until_drained()
    world.stop(*workers)

    assert world.unexpected_errors() == []
    assert world.verdict(responses_were_lost=True) == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
@pytest.mark.parametrize("kind", list(TOXICS))
def test_every_kind_of_partition_on_every_dependency(world: FaultWorld, kind: str) -> None:
    workers = under_load(world, 500)
    for dependency in world.proxies:
        break_for_a_while(world, dependency, kind, 5)
    world.wait_until_drained()
    world.stop(*workers)

    assert world.unexpected_errors() == []
    assert world.verdict(responses_were_lost=True) == []


def test_a_late_landing_write_is_repaired(world: FaultWorld) -> None:
    """A worker freezes and dies; its write reaches Milvus after another wrote a newer version."""
    queue_url = world.queues.impatient(world.environment["SQS_QUEUE_URL"])
    horizon = {"REPAIR_HORIZON_SECONDS": "12", "SQS_QUEUE_URL": queue_url}
    milvus = world.proxies["milvus"]
    direct = {"MILVUS_URI": world.milvus_url}
    other = world.start(fault="hold:receive", threads=1, settings=horizon | direct)
    dying = world.start(threads=1, settings=horizon)
    # The first write of a worker reads the schema; the delayed write must not.
    world.send_all([product("p", 1, world.images_url)])
    world.wait_for_event("acknowledge_done")
    written = len([event for event in world.events() if event.kind == "write"])
    milvus.add("latency", UPSTREAM, latency=10_000)
    world.send_all([product("p", 2, world.images_url)])
    world.wait_for_event("write", count=written + 1)
    time.sleep(0.3)
    dying.send_signal(signal.SIGSTOP)
    world.send_all([product("p", 3, world.images_url)])
    world.history.release()
    world.wait_until_drained()
    world.kill_when(dying, lambda: world.revision_in_milvus("p") == 2)
    world.wait_until_checked(40)
    world.stop(other)

    assert world.verdict(checks_are_done=True) == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_slow_stores_cost_no_lease(world: FaultWorld) -> None:
    slow = {"STORE_TIMEOUT_SECONDS": "20"}
    workers = [world.start(settings=slow), world.start(settings=slow)]
    for dependency in ("milvus", "elasticsearch"):
        world.proxies[dependency].add("latency", latency=1500)
    world.send_all(workload(300, world.images_url, seed=5))
    world.wait_until_drained()
    world.stop(*workers)

    assert len(lost_leases(world.events())) < len(world.sent) / 100
    assert world.verdict() == []
