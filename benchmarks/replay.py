"""The cost of price-only updates beside full ones, and how often the model runs in a replay.

    python -m benchmarks.replay [--messages 1000] [--changed 100] [--rounds 3] [--cores 2]
                                [--warm-up 30] [--forward-ms 15 0.83]

Our worker as shipped, on the servers and with the almost free model of ``benchmarks.pipeline``. It
first works until the servers are warm: a Java server that has just started takes several times the
CPU time, and servers are most of the cost of a price-only update. Then each round sends new
products, waits until all are stored, then sends the same products with another price. A last replay
mixes, in random order, price-only messages with ``--changed`` messages that have a new image.

A rate is taken between the first and the last tenth of a lot of messages: filling and emptying the
worker does not count. Forward passes come from the worker's metrics, responses of the
image host from its log. ``--forward-ms``: milliseconds per product on a real device, for estimates:
there a full update takes at least so long, a price-only update as long as here.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.support.measuring import difference, markdown, middle
from benchmarks.support.model import DESCRIPTION
from benchmarks.support.program import command, print_progress, run
from benchmarks.support.servers import (
    Body,
    Feed,
    OurWorker,
    World,
    open_world,
    product,
    use_cores,
)

GOAL_RATIO = 3.0
DRAIN_SECONDS = 300.0
POLL_SECONDS = 0.05
COUNTED_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one lot of messages."""

    kind: str
    messages: int
    rate: float
    """Messages per second, between the first and the last tenth."""
    cpu_ms: float
    """Of the worker, per message."""
    products_embedded: int
    images_sent: int
    images_unchanged: int
    failures: int


def main() -> None:
    options = read_options()
    cores = use_cores(options.cores)
    with open_world(status_log=True) as world, ExitStack() as opened:
        worker = opened.enter_context(OurWorker(world, Feed(world)))
        worker.wait_until_ready()
        replay = Replay(world, worker)
        deadline = time.monotonic() + options.warm_up
        is_warm = False
        while not is_warm:
            print_progress("warming up")
            replay.full(options.messages)
            replay.price_only()
            is_warm = time.monotonic() >= deadline
        runs: list[Run] = []
        for _ in range(options.rounds):
            runs.append(replay.full(options.messages))
            runs.append(replay.price_only())
        runs.append(replay.mixed(options.changed))
        print_report(runs, options, cores)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Price-only updates beside full ones.")
    parser.add_argument("--messages", type=int, default=1000, help="of each lot")
    parser.add_argument("--changed", type=int, default=100, help="with a new image, at the end")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds, at least")
    parser.add_argument("--cores", type=int, default=2, help="for everything together")
    parser.add_argument(
        "--forward-ms", type=float, nargs="*", default=[15.0, 0.83], help="on real devices"
    )
    return parser.parse_args()


class Replay:
    """Sends lots of messages to one worker and measures its work for each lot."""

    def __init__(self, world: World, worker: OurWorker) -> None:
        self._world = world
        self._worker = worker
        self._feed = worker.feed
        self._generator = random.Random(11)  # noqa: S311
        self._known: list[Body] = []
        self._products = 0
        self._version = 1

    def full(self, count: int) -> Run:
        """Send new products, each with an image of its own."""
        first = self._products
        self._products += count
        self._known = [self._feed.new_product(first + number) for number in range(count)]
        return self._run("new products", self._known)

    def price_only(self) -> Run:
        """Send the products of the last lot with another price."""
        return self._run("price only", self._with_new_prices())

    def mixed(self, changed: int) -> Run:
        """Do the same, but some products have a new image."""
        bodies = self._with_new_prices()
        for body in bodies[:changed]:
            body["image_url"] = self._feed.new_image()
        self._generator.shuffle(bodies)
        kept = len(bodies) - changed
        return self._run(f"{kept} price only, {changed} with a new image", bodies)

    def _with_new_prices(self) -> list[Body]:
        self._version += 1
        bodies = []
        for known in self._known:
            number = int(known["id"].partition("-")[2])
            price = f"{100 + self._version}.{number % 100:02}"
            bodies.append(product(number, known["image_url"], version=self._version, price=price))
        return bodies

    def _run(self, kind: str, bodies: Sequence[Body]) -> Run:
        print_progress(f"{len(bodies)} messages: {kind}")
        before, cpu_before, statuses_before = self._read_counters()
        self._worker.pause()
        self._feed.send(bodies)
        self._worker.resume()
        rate = self._drain(len(bodies))
        # The worker deletes a message first and counts it afterwards.
        time.sleep(COUNTED_SECONDS)
        after, cpu_after, statuses_after = self._read_counters()
        grown = difference(after, before)
        statuses = statuses_after - statuses_before
        stored = grown.get("product_messages_settled_total[stored][]", 0.0)
        return Run(
            kind,
            len(bodies),
            rate,
            1000 * (cpu_after - cpu_before) / len(bodies),
            int(grown["product_forward_pass_items_sum"]),
            statuses["200"],
            statuses["304"],
            len(bodies) - int(stored),
        )

    def _read_counters(self) -> tuple[dict[str, float], float, Counter[str]]:
        statuses = Counter((self._world.scratch / "statuses").read_text().split())
        return self._worker.metrics(), self._worker.cpu_seconds(), statuses

    def _drain(self, count: int) -> float:
        first, last = self._feed.sent - 0.9 * count, self._feed.sent - 0.1 * count
        samples: list[tuple[float, int]] = []
        deadline = time.monotonic() + DRAIN_SECONDS
        while True:
            self._worker.check()
            done = self._feed.done()
            if first <= done and (not samples or samples[-1][1] <= last):
                samples.append((time.monotonic(), done))
            if done >= self._feed.sent:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self._feed.left()} messages are left:\n{self._worker.log[-3000:]}"
                )
            time.sleep(POLL_SECONDS)
        (started, at_start), (ended, at_end) = samples[0], samples[-1]
        return (at_end - at_start) / max(1e-9, ended - started)


def print_report(runs: Sequence[Run], options: argparse.Namespace, cores: int) -> None:
    print(f"{command()}\n")
    print(f"{cores} cores for everything; photographs of 800 x 800 pixels; model: {DESCRIPTION}.\n")
    header = [
        *("messages", "number", "messages/s", "worker CPU ms", "embedded"),
        *("images sent", "images unchanged", "not stored"),
    ]
    rows = [
        (
            *(run.kind, run.messages, f"{run.rate:.0f}", f"{run.cpu_ms:.2f}"),
            *(run.products_embedded, run.images_sent, run.images_unchanged, run.failures),
        )
        for run in runs
    ]
    print(markdown(header, rows), end="\n\n")
    full = middle(run.rate for run in runs if run.kind == "new products")
    price_only = middle(run.rate for run in runs if run.kind == "price only")
    estimates = [
        ("measured, model almost free", f"{full:.0f}", f"{price_only / full:.1f}"),
        ("goal", "", f"{GOAL_RATIO}"),
    ]
    for forward_ms in options.forward_ms:
        bound = min(full, 1000 / forward_ms)
        text = f"estimate, {forward_ms:g} ms per forward pass and product"
        estimates.append((text, f"{bound:.0f}", f"{price_only / bound:.1f}"))
    print(f"Price only: {price_only:.0f} messages/s (median).\n")
    print(markdown(["full updates", "messages/s", "price only is faster by"], estimates))


if __name__ == "__main__":
    run(main)
