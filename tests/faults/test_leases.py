"""Leases that end while their message is worked on, and messages that were put off."""

import pytest

from tests.acceptance.world import wait_until
from tests.faults.harness.checker import lost_leases
from tests.faults.harness.forked_workers import Nursery
from tests.faults.harness.images import draw, end_leases, picture, vector_of
from tests.faults.harness.workload import product
from tests.faults.harness.world import Arena
from tests.support.hostile_server import HostileServer, reply

pytestmark = pytest.mark.timeout(170, func_only=True)

SHORT_LEASE = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "2"}
LONG_LEASE = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "60"}


def check_work_longer_than_its_lease(arena: Arena, nursery: Nursery, count: int) -> None:
    numbers = range(100, 100 + count)
    draw(arena, numbers)
    arena.send_all([product(f"p{n}", 1, arena.images_url, picture=n) for n in numbers])
    slow = nursery.start(arena, "no_heartbeats,slow:amid_embed:3:4", settings=SHORT_LEASE)
    arena.wait_for_event("receive")
    other = nursery.start(arena, "no_heartbeats", settings=SHORT_LEASE)
    arena.wait_until_drained(120)
    arena.stop(slow, other)

    assert lost_leases(arena.events()) != []
    assert arena.verdict() == []


def test_work_that_outlives_its_lease_is_done_twice_and_counts_once(
    arena: Arena, nursery: Nursery
) -> None:
    check_work_longer_than_its_lease(arena, nursery, count=20)


@pytest.mark.soak
def test_much_work_that_outlives_its_lease_counts_once(arena: Arena, nursery: Nursery) -> None:
    check_work_longer_than_its_lease(arena, nursery, count=300)


def test_a_receipt_that_is_no_longer_valid_deletes_nothing(arena: Arena, nursery: Nursery) -> None:
    """The first holder is done when a second has the message; the second dies."""
    arena.send_all([product("p", 1, arena.images_url)])
    fault = "no_heartbeats,slow:before_acknowledge:4"
    slow = nursery.start(arena, fault, threads=1, settings=SHORT_LEASE)
    arena.wait_for_event("receive")
    other = nursery.start(arena, "hold:before_acknowledge", threads=1, settings=LONG_LEASE)
    arena.wait_for_event("receive", count=2)
    arena.wait_for_event("acknowledge_done")
    kept = arena.hidden_in_queue()
    arena.kill(other)
    end_leases(arena)
    arena.wait_until_drained()
    arena.stop(slow)

    assert kept == 1
    assert arena.verdict() == []


def test_only_what_was_put_off_comes_again_after_a_restart(arena: Arena, nursery: Nursery) -> None:
    with HostileServer({f"/{number}.png": reply(503) for number in (103, 105)}) as server:
        for number in range(101, 106):
            arena.picture_vectors[number] = vector_of(picture(number))
            server.routes.setdefault(f"/{number}.png", reply(200, picture(number)))
        arena.send_all(
            [product(f"p{n}", 1, server.url(""), picture=n) for n in range(101, 106)],
        )
        settings = {"IMAGE_ALLOWED_PORTS": f"80,443,{server.port}"}
        first = nursery.start(arena, "retry_after:3", settings=settings)
        arena.wait_for_event("retry_done", count=2)
        wait_until(lambda: arena.left_in_queue() == 2, 10)
        arena.stop(first)
        for number in (103, 105):
            server.routes[f"/{number}.png"] = reply(200, picture(number))
        second = nursery.start(arena, settings=settings)
        arena.wait_until_drained()
        arena.stop(second)

    received = {
        arena.sent[message_id].product_id
        for event in arena.events()
        if event.kind == "receive" and event.process == second.process.pid
        for message_id in event["messages"]
    }
    assert received == {"p103", "p105"}
    assert arena.verdict() == []
