"""Leases that end while a worker has the message, and messages that are delayed."""

import pytest

from tests.acceptance.world import wait_until
from tests.faults.harness.checker import lost_leases
from tests.faults.harness.forked_workers import ForkServer
from tests.faults.harness.images import draw, embedding_of, png
from tests.faults.harness.leases import end_leases
from tests.faults.harness.workload import product
from tests.faults.harness.world import FaultWorld
from tests.support.hostile_server import HostileServer, reply

pytestmark = pytest.mark.timeout(170, func_only=True)

SHORT_LEASE = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "2"}
LONG_LEASE = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "60"}


def check_work_longer_than_its_lease(
    world: FaultWorld, fork_server: ForkServer, count: int
) -> None:
    numbers = range(100, 100 + count)
    draw(world, numbers)
    world.send_all([product(f"p{n}", 1, world.images_url, image_number=n) for n in numbers])
    slow = fork_server.start(world, "no_heartbeats,slow:during_embed:3:4", settings=SHORT_LEASE)
    world.wait_for_event("receive")
    other = fork_server.start(world, "no_heartbeats", settings=SHORT_LEASE)
    world.wait_until_drained(120)
    world.stop(slow, other)

    assert lost_leases(world.events()) != []
    assert world.verdict() == []


def test_work_that_outlives_its_lease_is_done_twice_and_counts_once(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    check_work_longer_than_its_lease(world, fork_server, count=20)


@pytest.mark.soak
def test_much_work_that_outlives_its_lease_counts_once(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    check_work_longer_than_its_lease(world, fork_server, count=300)


def test_a_receipt_that_is_no_longer_valid_deletes_nothing(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    """The first holder is done when a second has the message; the second dies."""
    world.send_all([product("p", 1, world.images_url)])
    fault = "no_heartbeats,slow:before_acknowledge:4:1"
    slow = fork_server.start(world, fault, threads=1, settings=SHORT_LEASE)
    world.wait_for_event("receive")
    other = fork_server.start(world, "hold:before_acknowledge", threads=1, settings=LONG_LEASE)
    world.wait_for_event("receive", count=2)
    world.wait_for_event("acknowledge_done")
    kept = world.hidden_in_queue()
    world.kill(other)
    end_leases(world)
    world.wait_until_drained()
    world.stop(slow)

    assert kept == 1
    assert world.verdict() == []


def test_only_delayed_messages_come_again_after_a_restart(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    with HostileServer({f"/{number}.png": reply(503) for number in (103, 105)}) as server:
        for number in range(101, 106):
            world.image_embeddings[number] = embedding_of(png(number))
            server.routes.setdefault(f"/{number}.png", reply(200, png(number)))
        world.send_all(
            [product(f"p{n}", 1, server.url(""), image_number=n) for n in range(101, 106)],
        )
        settings = {"IMAGE_ALLOWED_PORTS": f"80,443,{server.port}"}
        first = fork_server.start(world, "retry_after:3", settings=settings)
        world.wait_for_event("retry_done", count=2)
        wait_until(lambda: world.left_in_queue() == 2, 10)
        world.stop(first)
        for number in (103, 105):
            server.routes[f"/{number}.png"] = reply(200, png(number))
        second = fork_server.start(world, settings=settings)
        world.wait_until_drained()
        world.stop(second)

    received = {
        world.sent[message_id].product_id
        for event in world.events()
        if event.kind == "receive" and event.process == second.process.pid
        for message_id in event["messages"]
    }
    assert received == {"p103", "p105"}
    assert world.verdict() == []
