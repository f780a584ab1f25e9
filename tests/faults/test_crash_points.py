"""A worker dies at every step that a message takes; another finishes, and nothing shows it."""

import pytest

from tests.faults.harness.forked_workers import Nursery
from tests.faults.harness.images import draw, end_leases
from tests.faults.harness.workload import Sent, poison, product, tombstone
from tests.faults.harness.world import Arena

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


def five_messages(arena: Arena, number: int) -> list[Sent]:
    """A product that changes twice, one that is deleted, and poison, with pictures of their own."""
    name = f"{POINTS[number]}-{number}"
    new, known = 100 + 2 * number, 101 + 2 * number
    draw(arena, (new, known))
    return [
        product(name, 1, arena.images_url, picture=new),
        product(name, 2, arena.images_url, picture=known),
        product(f"{name}-gone", 1, arena.images_url, picture=known),
        tombstone(f"{name}-gone", 2),
        poison("price_invalid", arena.images_url),
    ]


def test_a_death_at_any_step_costs_nothing(arena: Arena, nursery: Nursery) -> None:
    for number, point in enumerate(POINTS):
        dying = nursery.start(arena, f"crash:{point}", threads=1, settings=LONG_LEASE)
        arena.send_all(five_messages(arena, number))
        arena.wait_for_crash(dying)
    end_leases(arena)
    worker = nursery.start(arena, settings=LONG_LEASE)
    arena.wait_until_drained()
    arena.wait_until_unmarked()
    arena.stop(worker)

    crashes = [event["where"] for event in arena.events() if event.kind == "crash"]
    assert crashes == list(POINTS)
    assert arena.verdict(marks_are_due=True) == []
