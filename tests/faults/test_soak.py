"""The long runs: the whole workload under twenty kills, a duplicate storm, memory under load."""

import random
from collections.abc import Sequence

import pytest

from tests.acceptance.world import Worker
from tests.faults.harness.order_world import OrderWorld
from tests.faults.harness.orders import SentOrder, order_workload
from tests.faults.harness.usage import Usage, growth_kb, has_risen, read_usage
from tests.faults.harness.workload import Sent, product, workload
from tests.faults.harness.world import SOAK_SECONDS, FaultWorld, kill_at_random

PORTION = 1000
# Pools and caches are full long before: growth from here on would never end.
WARM_MESSAGES = 10_000
# 100 bytes a message: less than a message id that is kept in a set.
GROWTH_KB = 1000


def storm(world: FaultWorld, messages: int, copies: int) -> None:
    distinct = [
        product(f"p{number % (messages // 4)}", 1 + number // 4, world.images_url)
        for number in range(messages)
    ]
    shuffled: list[Sent] = distinct * copies
    random.Random(copies).shuffle(shuffled)
    workers = [world.start(), world.start()]
    world.send_all(shuffled)
    world.wait_until_drained()
    world.stop(*workers)

    assert world.verdict() == []


@pytest.mark.timeout(120, func_only=True)
def test_a_duplicate_storm_counts_every_event_once(world: FaultWorld) -> None:
    storm(world, messages=20, copies=20)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_a_long_duplicate_storm_counts_every_event_once(world: FaultWorld) -> None:
    storm(world, messages=500, copies=20)


def mixed_workload(count: int, images_url: str, seed: int) -> list[Sent | SentOrder]:
    """About ``count`` messages in random order, three in ten of them orders."""
    orders = count * 3 // 10
    messages: list[Sent | SentOrder] = [*workload(count - orders, images_url, seed)]
    messages += order_workload(orders, seed)
    random.Random(seed).shuffle(messages)
    return messages


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_twenty_kills_under_two_thousand_messages(mixed_world: OrderWorld) -> None:
    world = mixed_world
    messages = mixed_workload(2000, world.images_url, seed=20)
    with world.observed():
        workers = kill_at_random(world, messages, 20, world.start, seed=21)
        world.wait_until_drained()
        world.wait_until_checked(60)
        world.stop(*workers)

    assert world.verdict(checks_are_done=True) == []


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_memory_files_and_threads_stay_flat_over_twenty_thousand_messages(
    cold_world: FaultWorld,
) -> None:
    world = cold_world
    as_deployed = {"BATCH_SIZE": "10", "MALLOC_ARENA_MAX": "2"}
    worker = world.start(threads=8, settings=as_deployed)
    samples = feed(world, worker, workload(20_000, world.images_url, seed=30))
    world.wait_until_drained()
    world.stop(worker)
    warm = [sample for sample in samples if sample.messages >= WARM_MESSAGES]

    assert growth_kb(warm, messages=10_000) < GROWTH_KB, warm
    assert not has_risen([sample.files for sample in warm]), warm
    assert not has_risen([sample.threads for sample in warm]), warm
    assert world.verdict() == []


def feed(world: FaultWorld, worker: Worker, messages: Sequence[Sent]) -> list[Usage]:
    """Send a thousand messages whenever few are left; return a sample of the worker for each."""
    samples = []
    for start in range(0, len(messages), PORTION):
        world.send_all(messages[start : start + PORTION])
        world.wait_until_left(PORTION // 4)
        handled = len(world.sent) - world.left_in_queue()
        samples.append(read_usage(worker.process.pid, handled))
    return samples
