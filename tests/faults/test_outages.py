"""Parts that go away, get slow or break their connections, under load."""

import signal
import time

import pytest

from tests.acceptance.world import Worker
from tests.faults.harness.checker import failures_of, lost_leases, polls_while_down
from tests.faults.harness.recording import deliveries
from tests.faults.harness.toxiproxy import DOWNSTREAM, UPSTREAM
from tests.faults.harness.workload import product, workload
from tests.faults.harness.world import SOAK_SECONDS, Arena

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


def under_load(arena: Arena, count: int) -> list[Worker]:
    """Two workers in the middle of a workload."""
    workers = [arena.start(), arena.start()]
    for worker in workers:
        arena.wait_until_polling(worker)
    arena.send_all(workload(count, arena.images_url, seed=count))
    arena.wait_for_event("acknowledge", count=5)
    return workers


def check_an_outage(arena: Arena, store: str, count: int, seconds: float) -> None:
    workers = under_load(arena, count)
    down_at = time.monotonic()
    with arena.proxies[store].down():
        time.sleep(seconds)
        back_at = time.monotonic()
    arena.wait_until_drained()
    arena.stop(*workers)

    events = arena.events()
    assert failures_of(events, store, down_at), "the outage hit nobody"
    assert polls_while_down(events, store, down_at, back_at, NOTICED_SECONDS) == []
    assert max(deliveries(events).values()) <= 2
    assert arena.unexpected_errors() == []
    assert arena.verdict() == []


@pytest.mark.parametrize("store", STORES)
def test_a_store_outage_costs_no_message_and_ends_by_itself(arena: Arena, store: str) -> None:
    check_an_outage(arena, store, count=1000, seconds=6)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
@pytest.mark.parametrize("store", STORES)
def test_a_long_store_outage_costs_no_message(arena: Arena, store: str) -> None:
    check_an_outage(arena, store, count=1000, seconds=20)


def test_a_queue_that_is_down_for_a_while_loses_nothing(arena: Arena) -> None:
    workers = under_load(arena, 200)
    with arena.proxies["queue"].down():
        time.sleep(6)
    arena.wait_until_drained()
    arena.stop(*workers)

    assert arena.unexpected_errors() == []
    assert arena.verdict(answers_were_lost=True) == []


def break_for_a_while(arena: Arena, part: str, kind: str, seconds: float) -> None:
    with arena.proxies[part].toxic(kind, DOWNSTREAM, **TOXICS[kind]):
        time.sleep(seconds)


def test_connections_that_are_reset_lose_nothing(arena: Arena) -> None:
    workers = under_load(arena, 300)
    for part in arena.proxies:
        break_for_a_while(arena, part, "reset_peer", 1.5)
    arena.wait_until_drained()
    arena.stop(*workers)

    assert arena.unexpected_errors() == []
    assert arena.verdict(answers_were_lost=True) == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
@pytest.mark.parametrize("kind", list(TOXICS))
def test_every_kind_of_partition_on_every_part(arena: Arena, kind: str) -> None:
    workers = under_load(arena, 500)
    for part in arena.proxies:
        break_for_a_while(arena, part, kind, 5)
    arena.wait_until_drained()
    arena.stop(*workers)

    assert arena.unexpected_errors() == []
    assert arena.verdict(answers_were_lost=True) == []


def test_a_late_landing_write_is_repaired(arena: Arena) -> None:
    """A worker freezes and dies; its write reaches Milvus after another showed a newer version."""
    horizon = {"REPAIR_HORIZON_SECONDS": "12"}
    milvus = arena.proxies["milvus"]
    direct = {"MILVUS_URI": arena.milvus_url}
    other = arena.start(fault="hold:receive", threads=1, settings=horizon | direct)
    dying = arena.start(threads=1, settings=horizon)
    # The first write to Milvus asks for the schema before; the one that is delayed must not.
    arena.send_all([product("p", 1, arena.images_url)])
    arena.wait_for_event("acknowledge_done")
    written = len([event for event in arena.events() if event.kind == "write"])
    milvus.add("latency", UPSTREAM, latency=10_000)
    arena.send_all([product("p", 2, arena.images_url)])
    arena.wait_for_event("write", count=written + 1)
    time.sleep(0.3)
    dying.send_signal(signal.SIGSTOP)
    arena.send_all([product("p", 3, arena.images_url)])
    arena.history.release()
    arena.wait_until_drained()
    arena.kill_when(dying, lambda: arena.revision_in_milvus("p") == 2)
    arena.wait_until_unmarked(40)
    arena.stop(other)

    assert arena.verdict(marks_are_due=True) == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_slow_stores_cost_no_lease(arena: Arena) -> None:
    slow = {"STORE_TIMEOUT_SECONDS": "20"}
    workers = [arena.start(settings=slow), arena.start(settings=slow)]
    for part in ("milvus", "elasticsearch"):
        arena.proxies[part].add("latency", latency=1500)
    arena.send_all(workload(300, arena.images_url, seed=5))
    arena.wait_until_drained()
    arena.stop(*workers)

    assert len(lost_leases(arena.events())) < len(arena.sent) / 100
    assert arena.verdict() == []
