"""The wall clock jumps while a worker has messages: no duration is measured by it."""

import pytest

from tests.faults.harness.checker import lost_leases
from tests.faults.harness.forked_workers import ForkServer
from tests.faults.harness.workload import workload
from tests.faults.harness.world import FaultWorld

pytestmark = pytest.mark.timeout(170, func_only=True)

HOUR_SECONDS = 3600


@pytest.mark.parametrize(
    "seconds", [-HOUR_SECONDS, pytest.param(HOUR_SECONDS, marks=pytest.mark.soak)]
)
def test_a_clock_that_jumps_costs_no_lease_and_no_message(
    world: FaultWorld, fork_server: ForkServer, seconds: int
) -> None:
    world.send_all(workload(40, world.images_url, seed=22))
    fault = f"jump:before_record:{seconds},slow:before_record:1.5,retry_after:1"
    worker = fork_server.start(world, fault, settings={"SQS_VISIBILITY_TIMEOUT_SECONDS": "3"})
    world.wait_until_drained(90)
    world.stop(worker)

    assert [event.kind for event in world.events()].count("jump") == 1
    assert lost_leases(world.events()) == []
    assert world.verdict() == []
