"""The wall clock jumps while messages are worked on: what is measured is measured without it."""

import pytest

from tests.faults.harness.checker import lost_leases
from tests.faults.harness.forked_workers import Nursery
from tests.faults.harness.workload import workload
from tests.faults.harness.world import Arena

pytestmark = pytest.mark.timeout(170, func_only=True)

HOUR_SECONDS = 3600


@pytest.mark.parametrize("seconds", [HOUR_SECONDS, -HOUR_SECONDS])
def test_a_clock_that_jumps_costs_no_lease_and_no_message(
    arena: Arena, nursery: Nursery, seconds: int
) -> None:
    arena.send_all(workload(40, arena.images_url, seed=22))
    fault = f"jump:before_record:{seconds},slow:before_record:1.5,retry_after:1"
    worker = nursery.start(arena, fault, settings={"SQS_VISIBILITY_TIMEOUT_SECONDS": "3"})
    arena.wait_until_drained(90)
    arena.stop(worker)

    assert [event.kind for event in arena.events()].count("jump") == 1
    assert lost_leases(arena.events()) == []
    assert arena.verdict() == []
