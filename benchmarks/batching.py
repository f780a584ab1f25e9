"""How much of a device many threads reach: one lock per item or per batch, or one batch for all.

    python -m benchmarks.batching [--threads N ...] [--items N] [--max-batch N] [--seconds S]

The device is simulated: a pass sleeps 6 ms and 0.8 ms per item. A GPU that embeds at most 1250
images a second pays for every launch in the same way. Every thread hands over its items at once,
waits for the results and begins again, so only the device limits the rate. The rows:

    one item per lock   a lock around the model
    own batch per lock  each thread's own items as one pass
    batcher             product_consumer.embedding.batcher: all waiting items are one pass
    batcher, two deep   the same with a device that has a queue for the next batch

Prints items per second, the share of 1250 and the mean batch. The last columns are the 50th and
99th percentile of the time from handing over to having all results. Takes about 20 seconds.
"""

import argparse
import queue
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.support.program import run
from product_consumer.embedding.batcher import Batcher

PASS_SECONDS = 0.006
ITEM_SECONDS = 0.0008
TARGET_SHARE = 0.88
WAIT_SECONDS = 60.0

Embed = Callable[[Sequence[int]], None]
"""Hands items over and returns when all have their results."""


class Device:
    """A simulated device: sleeps as long as a pass takes, and remembers the size of each pass."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, items: Sequence[int]) -> list[int | Exception]:
        time.sleep(PASS_SECONDS + ITEM_SECONDS * len(items))
        self.batches.append(len(items))
        return list(items)


class QueuedDevice:
    """The same device with a queue of its own: takes a batch now, gives the results later."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def begin(self, items: Sequence[int]) -> Callable[[], list[int | Exception]]:
        job = _Job(items)
        self._jobs.put(job)

        def wait() -> list[int | Exception]:
            if not job.done.wait(WAIT_SECONDS):
                raise TimeoutError("the simulated device did not answer")
            return job.results

        return wait

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job.results = self._device.run(job.items)
            job.done.set()


@dataclass(slots=True, eq=False)
class _Job:
    """A batch in the queue of a device."""

    items: Sequence[int]
    done: threading.Event = field(default_factory=threading.Event)
    results: list[int | Exception] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the table."""

    items_per_second: float
    mean_batch: float
    latencies: list[float]
    """Seconds from handing over to having all results, ascending."""

    @property
    def share(self) -> float:
        return self.items_per_second * ITEM_SECONDS

    def percentile(self, percent: int) -> float:
        return self.latencies[min(len(self.latencies) - 1, len(self.latencies) * percent // 100)]


def main() -> None:
    options = read_options()
    print(
        f"Simulated device: {PASS_SECONDS * 1000:g} ms + {ITEM_SECONDS * 1000:g} ms per item,"
        f" at most {1 / ITEM_SECONDS:.0f} items/s; batches of at most {options.max_batch};"
        f" {options.items} items handed over at once; {options.seconds:g} s per row"
    )
    print(
        f"{'':22}{'threads':>8}{'items/s':>9}{'of 1250':>9}{'batch':>7}{'p50 ms':>8}{'p99 ms':>8}"
    )
    reached: list[float] = []
    for threads in options.threads:
        for name, make in ways(options.max_batch):
            measured = measure(make, threads, options.items, options.seconds)
            report(name, threads, measured)
            if name.startswith("batcher"):
                reached.append(measured.share)
    print(f"Target: {TARGET_SHARE:.0%} with 32 threads of 10 items; best here {max(reached):.1%}")


def ways(max_batch: int) -> list[tuple[str, Callable[[Device], Embed]]]:
    return [
        ("one item per lock", one_item_per_lock),
        ("own batch per lock", own_batch_per_lock),
        ("batcher", lambda device: batcher(device.run, max_batch)),
        ("batcher, two deep", lambda device: batcher(QueuedDevice(device).begin, max_batch)),
    ]


def one_item_per_lock(device: Device) -> Embed:
    lock = threading.Lock()

    def embed(items: Sequence[int]) -> None:
        for item in items:
            with lock:
                device.run([item])

    return embed


def own_batch_per_lock(device: Device) -> Embed:
    lock = threading.Lock()

    def embed(items: Sequence[int]) -> None:
        with lock:
            device.run(items)

    return embed


def batcher(
    run: Callable[[Sequence[int]], list[int | Exception] | Callable[[], list[int | Exception]]],
    max_batch: int,
) -> Embed:
    running: Batcher[int, int] = Batcher(
        run, name="simulated", max_batch=max_batch, max_waiting=4 * max_batch
    )

    def embed(items: Sequence[int]) -> None:
        futures = running.submit(items, timeout_seconds=WAIT_SECONDS)
        if [future.result(WAIT_SECONDS) for future in futures] != list(items):
            raise RuntimeError("the results are not those of the items")

    return embed


def measure(make: Callable[[Device], Embed], threads: int, items: int, seconds: float) -> Measured:
    device = Device()
    embed = make(device)
    hand_overs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        mine = range(number * items, (number + 1) * items)
        while time.perf_counter() < end:
            started = time.perf_counter()
            embed(mine)
            hand_overs.append((started, time.perf_counter()))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - started
    return Measured(
        items_per_second=len(hand_overs) * items / elapsed,
        mean_batch=statistics.mean(device.batches),
        latencies=sorted(finished - begun for begun, finished in hand_overs),
    )


def report(name: str, threads: int, measured: Measured) -> None:
    p50, p99 = (measured.percentile(percent) * 1000 for percent in (50, 99))
    print(
        f"{name:22}{threads:8}{measured.items_per_second:9.0f}{measured.share:9.1%}"
        f"{measured.mean_batch:7.1f}{p50:8.0f}{p99:8.0f}",
        flush=True,
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How much of a simulated device is reached")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[32], help="how many, one table row each"
    )
    parser.add_argument("--items", type=int, default=10, help="items handed over at once")
    parser.add_argument("--max-batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=4.0, help="per row")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
