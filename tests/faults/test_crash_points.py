"""A worker dies at every step of a message; another finishes, and the stores are right."""

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
    "during_fetch",
    "after_fetch",
    "after_start",
    "after_decode",
    "during_embed",
    "after_embed",
    "before_finish",
    "after_finish",
    "before_record",
    "during_record_commit",
    "after_record",
    "before_milvus",
    "after_milvus",
    "after_elasticsearch",
    "after_verify",
    "before_acknowledge",
    "after_acknowledge",
    "before_reject",
    "during_reject",
    "after_reject",
    "sweep",
    "before_clear",
)
# A message is hidden for a whole lease if its worker died between poll and response. The lease is
# longer than all the deaths together, and shorter than the wait for a queue that stands still.
LONG_LEASE = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "30", "REPAIR_HORIZON_SECONDS": "3"}


def five_messages(world: FaultWorld, number: int) -> list[Sent]:
    """A product in two versions, a product that is deleted, and poison; the images are new."""
    name = f"{POINTS[number]}-{number}"
    new, known = 100 + 2 * number, 101 + 2 * number
    draw(world, (new, known))
    return [
        product(name, 1, world.images_url, image_number=new),
        product(name, 2, world.images_url, image_number=known),
        product(f"{name}-gone", 1, world.images_url, image_number=known),
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
    world.wait_until_checked()
    world.stop(worker)

    crashes = [event["where"] for event in world.events() if event.kind == "crash"]
    assert crashes == list(POINTS)
    assert world.verdict(checks_are_done=True) == []
