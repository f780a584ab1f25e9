"""A worker dies at every step that a message takes; another finishes, and nothing shows it."""

import pytest

from tests.faults.harness.forked_workers import ForkServer
from tests.faults.harness.images import draw
from tests.faults.harness.leases import end_leases
from tests.faults.harness.workload import Sent, poison, product, tombstone
from tests.faults.harness.world import FaultWorld

pytestmark = pytest.mark.timeout(170, func_only=True)

POINTS = (
    "after_receive",
    "after_validate",
    "after_look_up",
    "amid_fetch",
    "after_fetch",
    "after_note",
    "after_decode",
    "amid_embed",
    "after_embed",
    "before_forget",
    "after_forget",
    "before_record",
    "amid_record_commit",
    "after_record",
    "before_milvus",
    "after_milvus",
    "after_elasticsearch",
    "after_verify",
    "before_acknowledge",
    "after_acknowledge",
    "before_reject",
    "amid_reject",
    "after_reject",
    "sweep",
    "before_clear",
)
# What the server gave to a poll whose worker died before the answer came is hidden for a whole
# lease: longer than all the deaths together, shorter than the wait for a queue that stands still.
LONG_LEASE = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "30", "REPAIR_HORIZON_SECONDS": "3"}


def five_messages(world: FaultWorld, number: int) -> list[Sent]:
    """A product that changes twice, one that is deleted, and poison, with pictures of their own."""
    name = f"{POINTS[number]}-{number}"
    new, known = 100 + 2 * number, 101 + 2 * number
    draw(world, (new, known))
    return [
        product(name, 1, world.images_url, picture=new),
        product(name, 2, world.images_url, picture=known),
        product(f"{name}-gone", 1, world.images_url, picture=known),
        tombstone(f"{name}-gone", 2),
        poison("price_invalid", world.images_url),
    ]


def test_a_death_at_any_step_costs_nothing(world: FaultWorld, fork_server: ForkServer) -> None:
    for number, point in enumerate(POINTS):
        dying = fork_server.start(world, f"crash:{point}", threads=1, settings=LONG_LEASE)
        world.send_all(five_messages(world, number))
        world.wait_for_crash(dying)
    end_leases(world)
    worker = fork_server.start(world, settings=LONG_LEASE)
    world.wait_until_drained()
    world.wait_until_unmarked()
    world.stop(worker)

    crashes = [event["where"] for event in world.events() if event.kind == "crash"]
    assert crashes == list(POINTS)
    assert world.verdict(marks_are_due=True) == []
