"""Two workers apply one workload, with and without kills at random moments."""

import pytest

from tests.faults.harness.workload import workload
from tests.faults.harness.world import FaultWorld, kill_at_random

pytestmark = pytest.mark.timeout(170, func_only=True)


def test_two_workers_apply_a_workload_once(cold_world: FaultWorld) -> None:
    world = cold_world
    world.send_all(workload(200, world.images_url, seed=1))
    with world.observed():
        workers = [world.start(), world.start()]
        world.wait_until_drained()
        world.stop(*workers)

    assert world.verdict() == []


def test_kills_at_random_moments_lose_nothing(world: FaultWorld) -> None:
    messages = workload(300, world.images_url, seed=2)
    with world.observed():
        workers = kill_at_random(world, messages, 6, world.start, seed=3)
        world.wait_until_drained()
        world.wait_until_checked()
        world.stop(*workers)

    assert world.verdict(checks_are_done=True) == []
