"""A device that runs out of memory, breaks, or answers with rubbish; a message that kills."""

import pytest

from tests.acceptance.world import Worker, wait_until
from tests.faults.harness.forked_workers import Nursery
from tests.faults.harness.images import draw, end_leases
from tests.faults.harness.workload import Sent, product
from tests.faults.harness.world import Arena

pytestmark = pytest.mark.timeout(170, func_only=True)

MAX_DEATHS = 8
BATCHES_OF_TEN = {"BATCH_SIZE": "10", "SQS_VISIBILITY_TIMEOUT_SECONDS": "30"}


def device(fault: str) -> dict[str, str]:
    return BATCHES_OF_TEN | {"HARNESS_DEVICE": fault}


def send_new_products(arena: Arena, *names: str, poison: dict[str, str]) -> None:
    """Products by these names, each with a picture of its own; ``poison``: reasons by name."""
    draw(arena, range(100, 100 + len(names)))
    messages = []
    for number, name in enumerate(names):
        sent = product(name, 1, arena.images_url, name=name, picture=100 + number)
        messages.append(Sent(sent.body, poison=poison[name]) if name in poison else sent)
    arena.send_all(messages)


def acknowledged(arena: Arena) -> int:
    return [event.kind for event in arena.events()].count("acknowledge")


def test_a_batch_too_large_for_the_device_is_parted(arena: Arena, device_nursery: Nursery) -> None:
    send_new_products(arena, *(f"p{number}" for number in range(20)), poison={})
    worker = device_nursery.start(arena, threads=2, settings=device("out_of_memory:4"))
    arena.wait_until_drained()
    arena.stop(worker)

    assert "halving" in worker.log
    assert arena.verdict() == []


def test_a_lost_device_ends_the_process_and_nothing_is_acknowledged(
    arena: Arena, device_nursery: Nursery
) -> None:
    send_new_products(arena, *(f"p{number}" for number in range(10)), poison={})
    # With a fault of any kind its leases are written down, and can be ended.
    broken = device_nursery.start(arena, "retry_after:1", threads=2, settings=device("lost"))
    code = arena.wait_for_exit(broken, 60)
    before = acknowledged(arena)
    end_leases(arena)
    worker = device_nursery.start(arena, settings=device(""))
    arena.wait_until_drained()
    arena.stop(worker)

    assert (code, before) == (70, 0), broken.log
    assert arena.verdict() == []


@pytest.mark.parametrize("fault", ["die", "exit"])
def test_a_model_thread_that_ends_ends_the_process(
    arena: Arena, device_nursery: Nursery, fault: str
) -> None:
    send_new_products(arena, "p", poison={})
    worker = device_nursery.start(arena, threads=1, settings=device(fault))

    assert arena.wait_for_exit(worker, 60) == 70, worker.log
    assert acknowledged(arena) == 0


def test_a_vector_that_is_not_finite_costs_its_own_message_only(
    arena: Arena, device_nursery: Nursery
) -> None:
    names = [f"p{number}" for number in range(10)]
    send_new_products(arena, *names, poison={"p5": "embedding_invalid"})
    worker = device_nursery.start(arena, settings=device("not_finite:p5"))
    arena.wait_until_drained()
    arena.stop(worker)

    assert arena.verdict() == []


def test_a_message_that_kills_is_found_and_its_neighbours_are_spared(
    arena: Arena, device_nursery: Nursery
) -> None:
    names = [f"p{number}" for number in range(10)]
    send_new_products(arena, *names, poison={"p5": "crash_suspect"})
    deaths = 0
    worker = device_nursery.start(arena, "retry_after:1", settings=device("kill:p5"))
    while deaths < MAX_DEATHS and dies(arena, worker):
        deaths += 1
        end_leases(arena)
        worker = device_nursery.start(arena, "retry_after:1", settings=device("kill:p5"))
    arena.wait_until_drained()
    arena.stop(worker)

    # Once among others, then twice alone.
    assert deaths == 3
    assert arena.verdict() == []


def dies(arena: Arena, worker: Worker) -> bool:
    """Wait until a worker is dead, or has done everything."""
    wait_until(lambda: worker.process.poll() is not None or arena.left_in_queue() == 0, 60)
    return worker.process.poll() is not None
