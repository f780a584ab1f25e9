"""A device that runs out of memory, breaks or computes NaN; a message that kills its worker."""

import pytest

from tests.acceptance.world import Worker, wait_until
from tests.faults.harness.forked_workers import ForkServer
from tests.faults.harness.images import draw
from tests.faults.harness.leases import end_leases
from tests.faults.harness.workload import Sent, product
from tests.faults.harness.world import FaultWorld

pytestmark = pytest.mark.timeout(170, func_only=True)

MAX_DEATHS = 8
BATCHES_OF_TEN = {"BATCH_SIZE": "10", "SQS_VISIBILITY_TIMEOUT_SECONDS": "30"}


def device(fault: str) -> dict[str, str]:
    return BATCHES_OF_TEN | {"HARNESS_DEVICE": fault}


def send_new_products(world: FaultWorld, *names: str, poison: dict[str, str]) -> None:
    """Send products of these names, each with a new image; ``poison``: reasons by name."""
    draw(world, range(100, 100 + len(names)))
    messages = []
    for number, name in enumerate(names):
        sent = product(name, 1, world.images_url, name=name, image_number=100 + number)
        messages.append(Sent(sent.body, poison=poison[name]) if name in poison else sent)
    world.send_all(messages)


def acknowledged(world: FaultWorld) -> int:
    return [event.kind for event in world.events()].count("acknowledge")


def test_a_batch_too_large_for_the_device_is_split(
    world: FaultWorld, device_fork_server: ForkServer
) -> None:
    send_new_products(world, *(f"p{number}" for number in range(20)), poison={})
    worker = device_fork_server.start(world, threads=2, settings=device("out_of_memory:4"))
    world.wait_until_drained()
    world.stop(worker)

    assert "halving" in worker.log
    assert world.verdict() == []


def test_a_lost_device_ends_the_process_and_nothing_is_acknowledged(
    world: FaultWorld, device_fork_server: ForkServer
) -> None:
    send_new_products(world, *(f"p{number}" for number in range(10)), poison={})
    # A worker with a fault records its receipts, so that its leases can be ended.
    broken = device_fork_server.start(world, "retry_after:1", threads=2, settings=device("lost"))
    code = world.wait_for_exit(broken, 60)
    before = acknowledged(world)
    end_leases(world)
    worker = device_fork_server.start(world, settings=device(""))
    world.wait_until_drained()
    world.stop(worker)

    assert (code, before) == (70, 0), broken.log
    assert world.verdict() == []


def test_a_model_that_breaks_ends_the_process_and_blames_no_message(
    world: FaultWorld, device_fork_server: ForkServer
) -> None:
    send_new_products(world, *(f"p{number}" for number in range(10)), poison={})
    broken = device_fork_server.start(world, threads=2, settings=device("broken"))

    assert world.wait_for_exit(broken, 60) == 70, broken.log
    assert "no longer gives valid embeddings" in broken.log
    assert acknowledged(world) == 0
    assert world.dead_letters() == []


@pytest.mark.parametrize("fault", ["die", "exit"])
def test_a_model_thread_that_ends_ends_the_process(
    world: FaultWorld, device_fork_server: ForkServer, fault: str
) -> None:
    send_new_products(world, "p", poison={})
    worker = device_fork_server.start(world, threads=1, settings=device(fault))

    assert world.wait_for_exit(worker, 60) == 70, worker.log
    assert acknowledged(world) == 0


def test_an_embedding_that_is_not_finite_costs_its_own_message_only(
    world: FaultWorld, device_fork_server: ForkServer
) -> None:
    names = [f"p{number}" for number in range(10)]
    send_new_products(world, *names, poison={"p5": "embedding_invalid"})
    worker = device_fork_server.start(world, settings=device("not_finite:p5"))
    world.wait_until_drained()
    world.stop(worker)

    assert world.verdict() == []


def test_a_message_that_kills_is_found_and_its_neighbours_are_spared(
    world: FaultWorld, device_fork_server: ForkServer
) -> None:
    names = [f"p{number}" for number in range(10)]
    send_new_products(world, *names, poison={"p5": "crash_suspect"})
    deaths = 0
    worker = device_fork_server.start(world, "retry_after:1", settings=device("kill:p5"))
    while deaths < MAX_DEATHS and dies(world, worker):
        deaths += 1
        end_leases(world)
        worker = device_fork_server.start(world, "retry_after:1", settings=device("kill:p5"))
    world.wait_until_drained()
    world.stop(worker)

    # Once among others, then twice alone.
    assert deaths == 3
    assert world.verdict() == []


def dies(world: FaultWorld, worker: Worker) -> bool:
    """Wait until a worker has died, or has emptied the queue; return whether it died."""
    wait_until(lambda: worker.process.poll() is not None or world.left_in_queue() == 0, 60)
    return worker.process.poll() is not None
