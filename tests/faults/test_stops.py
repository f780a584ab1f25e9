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
from tests.faults.harness.world import SOAK_SECONDS, Arena

pytestmark = pytest.mark.timeout(170, func_only=True)


def check_stops(arena: Arena, count: int, times: int) -> None:
    # What a stop leaves behind must not stay hidden until a lease this long ends.
    long_lease = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "60"}
    draw = random.Random(times)
    messages = workload(count, arena.images_url, seed=times)
    size = -(-count // times)
    for number in range(times):
        arena.send_all(messages[number * size : (number + 1) * size])
        worker = arena.start(settings=long_lease)
        # While it starts, or while it works, however long a start takes.
        if number % 2:
            arena.wait_for_event("opening", count=number + 1)
        else:
            arena.wait_until_polling(worker)
        time.sleep(draw.uniform(0.0, 1.0))
        worker.send_signal(signal.SIGTERM)
        assert arena.wait_for_exit(worker, 30) == 0, worker.log
        wait_until(lambda: arena.hidden_in_queue() == 0, 2)
        assert arena.hidden_in_queue() == 0, worker.log
    arena.send_all(messages[times * size :])
    last = arena.start(settings=long_lease)
    arena.wait_until_drained()
    arena.stop(last)

    assert arena.verdict() == []


def test_stops_at_random_moments_are_clean(arena: Arena) -> None:
    check_stops(arena, count=200, times=5)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS, func_only=True)
def test_thirty_stops_at_random_moments_are_clean(cold_arena: Arena) -> None:
    check_stops(cold_arena, count=1500, times=30)


def test_a_consumer_thread_that_dies_is_started_again(arena: Arena) -> None:
    arena.send_all([product(f"p{number}", 1, arena.images_url) for number in range(20)])
    worker = arena.start(fault="die:receive:2", threads=1)
    arena.wait_until_drained()
    arena.stop(worker)

    assert arena.verdict() == []


def test_a_consumer_thread_that_exits_is_noticed(arena: Arena) -> None:
    arena.send_all([product(f"p{number}", 1, arena.images_url) for number in range(20)])
    worker = arena.start(fault="exit:receive:2", threads=1)
    arena.wait_for_event("thread_exit")
    wait_until(lambda: arena.left_in_queue() == 0 or worker.process.poll() is not None, 60)

    assert worker.process.poll() == 70 or arena.left_in_queue() == 0, worker.log


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


def test_a_full_disk_delays_and_loses_nothing(arena: Arena, tmp_path: Path) -> None:
    embedded = {"DATABASE_URL": "", "ELASTICSEARCH_URL": ""}
    with small_disk(tmp_path / "disk") as disk:
        worker = arena.start(settings=embedded | {"DATA_DIR": str(disk)})
        arena.send_all([product("first", 1, arena.images_url)])
        arena.wait_until_drained()
        fill(disk / "ballast")
        before = arena.events()[-1].at
        arena.send_all([product(f"p{number}", 1, arena.images_url) for number in range(100)])
        time.sleep(6)
        waiting = arena.left_in_queue()
        acknowledged = [event for event in arena.events() if event.kind == "acknowledge"]
        (disk / "ballast").unlink()
        arena.wait_until_drained()
        arena.stop(worker)

        assert waiting == 100
        assert [event for event in acknowledged if event.at > before] == []
        assert arena.verdict_on_disk(disk) == []
