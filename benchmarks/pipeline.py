"""The whole pipeline beside a naive worker, on the same real servers.

    python -m benchmarks.pipeline [--windows 3] [--seconds 5] [--warm-up 30] [--cores 2]
                                  [--set SETTING=VALUE]

Ours is ``thread_runner.py`` as shipped. The other is ``naive.py``, which works on one message at a
time; it runs as it is and with ``OMP_NUM_THREADS=1``. All get new products only, each with a
photograph of its own (800 x 800 pixels, about 142 KB), from ElasticMQ and nginx. They write to
PostgreSQL, Elasticsearch and Milvus Lite, each in processes of its own. The model is almost free,
so that everything else is measured.

All three workers first run together to warm the servers. Then they take turns: SIGSTOP stops two of
them while the third runs, with its queue filled in advance. A window begins ``settle`` seconds
after the third was woken. A message counts when it has left the queue; CPU time is read from
``/proc``. Timeouts and the time a message stays hidden are longer than any stop.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.support.measuring import Window, difference, markdown, middle
from benchmarks.support.model import DESCRIPTION
from benchmarks.support.program import command, print_progress, run
from benchmarks.support.servers import (
    Feed,
    NaiveWorker,
    OurWorker,
    WorkerProcess,
    World,
    open_world,
    use_cores,
)

GOAL_RATIO = 3.5
MINIMUM_RATIO = 2.5
GOAL_CPU_SHARE = 1 / 3
FIRST_GUESS_PER_CORE = 200.0
"""Messages per second that a worker may reach, until its first window was measured."""
WARM_UP_WAITING = 1000

Windows = dict[str, list[Window]]


def main() -> None:
    options = read_options()
    cores = use_cores(options.cores)
    with open_world() as world, ExitStack() as opened:
        workers = start_workers(world, opened, options)
        warm_up(workers, options.warm_up)
        windows: Windows = {worker.name: [] for worker in workers}
        stages: dict[str, float] = {}
        for number in range(options.windows):
            for worker in workers:
                with counting_stages(worker, stages):
                    window = measure(world, worker, windows[worker.name], options)
                windows[worker.name].append(window)
                print_progress(f"window {number + 1}, {worker.name}: {window.rate:.1f} messages/s")
        print_report(world, windows, cores)
        print_stages(stages)
        print_failures(workers)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our worker and a naive one on real servers.")
    parser.add_argument("--windows", type=int, default=3, help="of each worker")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--settle", type=float, default=1.5, help="seconds before a window")
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds, all together")
    parser.add_argument("--cores", type=int, default=2, help="for everything together")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="ours")
    return parser.parse_args()


def start_workers(
    world: World, opened: ExitStack, options: argparse.Namespace
) -> Sequence[WorkerProcess]:
    settings = dict(text.split("=", 1) for text in options.set)
    workers: Sequence[WorkerProcess] = (
        OurWorker(world, Feed(world), **settings),
        NaiveWorker(world, Feed(world), "naive"),
        NaiveWorker(world, Feed(world), "naive, OMP_NUM_THREADS=1", OMP_NUM_THREADS="1"),
    )
    for worker in workers:
        opened.enter_context(worker)
    for worker in workers:
        worker.wait_until_ready()
    return workers


def warm_up(workers: Sequence[WorkerProcess], seconds: float) -> None:
    """Let all workers work at once, then stop them."""
    print_progress(f"warming up for {seconds:.0f} s")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for worker in workers:
            worker.check()
            worker.feed.keep(WARM_UP_WAITING)
        time.sleep(1)
    for worker in workers:
        worker.pause()


def measure(
    world: World, worker: WorkerProcess, earlier: Sequence[Window], options: argparse.Namespace
) -> Window:
    """Fill the worker's queue, wake it, measure, and stop it again."""
    per_second = 1.6 * earlier[-1].rate if earlier else FIRST_GUESS_PER_CORE * options.cores
    worker.feed.keep(int(per_second * (options.settle + options.seconds)) + 200)
    worker.resume()
    try:
        time.sleep(options.settle)
        started, done = time.monotonic(), worker.feed.done()
        worker_cpu, server_cpu = worker.cpu_seconds(), world.server_cpu_seconds()
        time.sleep(options.seconds)
        seconds, messages = time.monotonic() - started, worker.feed.done() - done
        window = Window(
            seconds,
            messages,
            worker.cpu_seconds() - worker_cpu,
            difference(world.server_cpu_seconds(), server_cpu),
        )
        worker.check()
        if worker.feed.left() < 100:
            raise RuntimeError(f"{worker.name} emptied its queue: the window means nothing")
        return window
    finally:
        worker.pause()


@contextmanager
def counting_stages(worker: WorkerProcess, stages: dict[str, float]) -> Iterator[None]:
    """Add the growth of our worker's metrics in a window, the settling before it included."""
    if not isinstance(worker, OurWorker):
        yield
        return
    worker.resume()
    before = worker.metrics()
    worker.pause()
    yield
    worker.resume()
    after = worker.metrics()
    worker.pause()
    for name, value in difference(after, before).items():
        stages[name] = stages.get(name, 0.0) + value


def print_report(world: World, windows: Windows, cores: int) -> None:
    kilobytes = world.photographs.mean_bytes / 1000
    print(f"{command()}\n")
    print(f"{cores} cores for everything; photographs of 800 x 800 pixels, {kilobytes:.0f} KB;")
    print(f"model: {DESCRIPTION}. CPU in milliseconds per message.\n")
    header = ["worker", "window", "messages/s", "worker CPU", "servers' CPU", "together"]
    rows: list[Sequence[object]] = []
    for name, measured in windows.items():
        for number, window in enumerate(measured, 1):
            rows.append((name, number, *_cells([window])))
        rows.append((f"**{name}**", "median", *_cells(measured)))
    print(markdown(header, rows), end="\n\n")
    print_servers(windows)
    print_ratios(windows)


def _cells(windows: Sequence[Window]) -> tuple[str, ...]:
    return (
        f"{middle(window.rate for window in windows):.1f}",
        f"{middle(window.worker_cpu_ms for window in windows):.2f}",
        f"{middle(window.servers_cpu_ms for window in windows):.2f}",
        f"{middle(window.cpu_ms for window in windows):.2f}",
    )


def print_servers(windows: Windows) -> None:
    names = list(next(iter(windows.values()))[0].server_cpu_seconds)
    rows = [
        (
            worker,
            *(f"{middle(_server_cpu_ms(w, name) for w in measured):.2f}" for name in names),
        )
        for worker, measured in windows.items()
    ]
    print(markdown(["servers' CPU", *names], rows), end="\n\n")


def _server_cpu_ms(window: Window, name: str) -> float:
    return 1000 * window.server_cpu_seconds[name] / max(1, window.messages)


def print_ratios(windows: Windows) -> None:
    ours, *naive = windows.items()
    rows = []
    for name, measured in naive:
        ratio = _median_of("rate", ours[1]) / max(1e-9, _median_of("rate", measured))
        share = _median_of("cpu_ms", ours[1]) / max(1e-9, _median_of("cpu_ms", measured))
        rows.append((f"against {name}", f"{ratio:.2f}", f"{share:.2f}"))
    rows.append(("goal", f"{GOAL_RATIO}", f"{GOAL_CPU_SHARE:.2f}"))
    rows.append(("minimum", f"{MINIMUM_RATIO}", ""))
    print(markdown(["", "times the messages/s", "of its CPU per message"], rows), end="\n\n")


def _median_of(attribute: str, windows: Sequence[Window]) -> float:
    return middle(getattr(window, attribute) for window in windows)


def print_stages(stages: Mapping[str, float]) -> None:
    """Print the stages in which our batches spent their time, waiting for a core included."""
    prefix = "product_stage_seconds_sum["
    seconds = {
        name.removeprefix(prefix).removesuffix("]"): value
        for name, value in stages.items()
        if name.startswith(prefix)
    }
    total = sum(seconds.values()) or 1.0
    rows = [(stage, f"{100 * value / total:.0f} %") for stage, value in seconds.items()]
    print(markdown(["stage of ours", "share of wall clock"], rows), end="\n\n")
    passes = stages.get("product_forward_pass_items_count", 0.0)
    items = stages.get("product_forward_pass_items_sum", 0.0)
    batches = stages.get("product_receive_batch_messages_count", 0.0)
    received = stages.get("product_messages_received_total", 0.0)
    print(
        f"{received / max(1.0, batches):.1f} messages per receive, "
        f"{items / max(1.0, passes):.1f} products per forward pass\n"
    )


def print_failures(workers: Sequence[WorkerProcess]) -> None:
    for worker in workers:
        failures = [
            line
            for line in worker.log.splitlines()
            if any(word in line for word in (" failed", "WARNING", "ERROR", " retry message"))
        ]
        if failures:
            print(
                f"{worker.name}: {len(failures)} lines of trouble, the last: {failures[-1][:300]}"
            )


if __name__ == "__main__":
    run(main)
