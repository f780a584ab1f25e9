"""Workers that are asked to stop, threads that end, disks that fill up."""

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.world import wait_until
from tests.faults.harness.workload import product, workload
from tests.faults.harness.world import SOAK_SECONDS, FaultWorld

pytestmark = pytest.mark.timeout(170, func_only=True)


def check_stops(world: FaultWorld, count: int, times: int) -> None:
    # A stop must release its messages: the test would not wait for a lease this long.
    long_lease = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "60"}
    draw = random.Random(times)
    messages = workload(count, world.images_url, seed=times)
    size = -(-count // times)
    for number in range(times):
        world.send_all(messages[number * size : (number + 1) * size])
        worker = world.start(settings=long_lease)
        # Every second worker is stopped while it starts, the others while they work.
        if number % 2:
            world.wait_for_event("opening", count=number + 1)
        else:
            world.wait_until_polling(worker)
        time.sleep(draw.uniform(0.0, 1.0))
        worker.send_signal(signal.SIGTERM)
        assert world.wait_for_exit(worker, 30) == 0, worker.log
        wait_until(lambda: world.hidden_in_queue() == 0, 2)
        assert world.hidden_in_queue() == 0, worker.log
    world.send_all(messages[times * size :])
    last = world.start(settings=long_lease)
    world.wait_until_drained()
    world.stop(last)

    assert world.verdict() == []


def test_stops_at_random_moments_are_clean(world: FaultWorld) -> None:
    check_stops(world, count=200, times=5)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_thirty_stops_at_random_moments_are_clean(cold_world: FaultWorld) -> None:
    check_stops(cold_world, count=1500, times=30)


def test_a_consumer_thread_that_dies_is_started_again(world: FaultWorld) -> None:
    world.send_all([product(f"p{number}", 1, world.images_url) for number in range(20)])
    worker = world.start(fault="die:receive:2", threads=1)
    world.wait_until_drained()
    world.stop(worker)

    assert world.verdict() == []


def test_a_consumer_thread_that_exits_is_noticed(world: FaultWorld) -> None:
    world.send_all([product(f"p{number}", 1, world.images_url) for number in range(20)])
    worker = world.start(fault="exit:receive:2", threads=1)
    world.wait_for_event("thread_exit")
    wait_until(lambda: world.left_in_queue() == 0 or worker.process.poll() is not None, 60)

    assert worker.process.poll() == 70 or world.left_in_queue() == 0, worker.log


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a small disk here (needs root)")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_delays_and_loses_nothing(world: FaultWorld, tmp_path: Path) -> None:
    embedded = {"DATABASE_URL": "", "ELASTICSEARCH_URL": ""}
    with small_disk(tmp_path / "disk") as disk:
        worker = world.start(settings=embedded | {"DATA_DIR": str(disk)})
        world.send_all([product("first", 1, world.images_url)])
        world.wait_until_drained()
        fill(disk / "ballast")
        before = world.events()[-1].at
        world.send_all([product(f"p{number}", 1, world.images_url) for number in range(100)])
        time.sleep(6)
        waiting = world.left_in_queue()
        acknowledged = [event for event in world.events() if event.kind == "acknowledge"]
        (disk / "ballast").unlink()
        world.wait_until_drained()
        world.stop(worker)

        assert waiting == 100
        assert [event for event in acknowledged if event.at > before] == []
        assert world.verdict_on_disk(disk) == []
