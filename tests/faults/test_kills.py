"""Workers that die, at random moments and at chosen ones."""

import pytest

from tests.faults.harness.workload import workload
from tests.faults.harness.world import Arena, kill_at_random

pytestmark = pytest.mark.timeout(170, func_only=True)


def test_two_workers_apply_a_workload_once(cold_arena: Arena) -> None:
    arena = cold_arena
    arena.send_all(workload(200, arena.images_url, seed=1))
    with arena.observed():
        workers = [arena.start(), arena.start()]
        arena.wait_until_drained()
        arena.stop(*workers)

    assert arena.verdict() == []


def test_kills_at_random_moments_lose_nothing(arena: Arena) -> None:
    messages = workload(300, arena.images_url, seed=2)
    with arena.observed():
        workers = kill_at_random(arena, messages, 6, arena.start, seed=3)
        arena.wait_until_drained()
        arena.wait_until_unmarked()
        arena.stop(*workers)

    assert arena.verdict(marks_are_due=True) == []
