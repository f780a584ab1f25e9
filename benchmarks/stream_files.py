"""How fast collectors save pictures and words, beside writing the same files alone.

    python -m benchmarks.stream_files [--files N] [--bytes N] [--rounds N] [--directory DIR]

Alone: for each file one write, one fsync and one link, one after another in one thread. Ours: the
whole collector, from a real RabbitMQ through the consumer loop to acknowledged messages. Both run
in turns, over the same files, in a new folder of ``--directory`` each time. That should lie on a
disk: in memory an fsync costs nothing. Prints the medians of all rounds. Needs rabbitmq-server.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.support.measuring import markdown, middle
from benchmarks.support.program import command, print_progress, run
from product_consumer.models import Envelope, Message
from product_consumer.outcomes import Outcome
from product_consumer.pipeline.base import Pipeline
from product_consumer.queues.base import MessageQueue, Outgoing
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.rabbitmq.opening import open_stream_sender
from product_consumer.queues.rabbitmq.url import AmqpUrl, read_url
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.worker import Worker
from product_consumer.settings import Settings
from product_consumer.streams.collect.directory import OutputDirectory
from product_consumer.streams.collect.files import FilePipeline
from product_consumer.streams.collect.naming import Naming, PictureNaming, TextNaming
from product_consumer.streams.collect.opening import BATCH_SIZE
from product_consumer.streams.produce.sending import StreamSender
from product_consumer.streams.worker import run_stream
from tests.support.rabbitmq_node import RabbitNode
from tests.support.tools import MissingTool

WORD_BYTES = 7
GOAL = "0.7 (0.5)"
# As ``collect images`` and ``collect texts`` have them by default.
KINDS: dict[str, tuple[Callable[[], Naming], int]] = {
    "pictures": (PictureNaming, 2),
    "words": (partial(TextNaming, ()), 1),
}


def main() -> None:
    options = read_options()
    scratch = Path(tempfile.mkdtemp(prefix="stream-files-", dir=options.directory))
    try:
        with RabbitNode() as node:
            bench = Bench(node, scratch, options.files)
            sizes = {"pictures": options.bytes, "words": WORD_BYTES}
            for number in range(1, options.rounds + 1):
                for kind, size_bytes in sizes.items():
                    bench.measure(kind, size_bytes)
                    print_progress(f"round {number}: {kind}")
    except MissingTool as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{command()}: {options.files} files, pictures of {options.bytes} bytes")
    print(bench.report())


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the collectors of pictures and words.")
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--bytes", type=int, default=30_000, help="of a picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path(), help="on the disk to measure")
    return parser.parse_args()


class Bench:
    """Files per second, alone and by a collector, of each round."""

    def __init__(self, node: RabbitNode, scratch: Path, files: int) -> None:
        self._node = node
        self._scratch = scratch
        self._files = files
        self._rates: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def measure(self, kind: str, size_bytes: int) -> None:
        """Measure one round of a kind."""
        bodies = bodies_of(self._files, size_bytes)
        name = f"{kind}-{len(self._rates[kind])}"
        alone = seconds_alone(self._scratch / f"{name}-alone", bodies)
        url = read_url(self._node.url(name), "url")
        send(url, bodies)
        ours = seconds_of_collector(kind, url, self._scratch / f"{name}-ours")
        self._rates[kind].append((len(bodies) / alone, len(bodies) / ours))

    def report(self) -> str:
        """Return the medians as a table."""
        rows = [
            (
                kind,
                f"{middle(alone for alone, _ in rates):,.0f}",
                f"{middle(ours for _, ours in rates):,.0f}",
                f"{middle(ours / alone for alone, ours in rates):.2f}",
                GOAL,
            )
            for kind, rates in self._rates.items()
        ]
        return markdown(("", "alone, files/s", "collector", "ratio", "goal (least)"), rows)


def bodies_of(count: int, size_bytes: int) -> list[bytes]:
    drawn = random.Random(7)  # noqa: S311
    # Letters, so that they may be words.
    return [drawn.randbytes(-(-size_bytes // 2)).hex()[:size_bytes].encode() for _ in range(count)]


def seconds_alone(directory: Path, bodies: Sequence[bytes]) -> float:
    directory.mkdir()
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    started = time.perf_counter()
    for number, body in enumerate(bodies):
        file = os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o666, dir_fd=folder)
        os.write(file, body)
        os.fsync(file)
        os.link(f"/proc/self/fd/{file}", str(number), dst_dir_fd=folder, follow_symlinks=True)
        os.close(file)
    seconds = time.perf_counter() - started
    os.close(folder)
    return seconds


def send(url: AmqpUrl, bodies: Sequence[bytes]) -> None:
    with closing(
        StreamSender(partial(open_stream_sender, url, Settings()), threading.Event())
    ) as s:
        s.send(
            Outgoing(body, {}, Envelope(message_id=str(number)))
            for number, body in enumerate(bodies)
        )


class Timed:
    """A pipeline with the times at which it began and at which its last batch was done."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.wait_until_ready = pipeline.wait_until_ready
        self.began_at: float | None = None
        self.ended_at = 0.0

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        if self.began_at is None:
            self.began_at = time.perf_counter()
        outcomes = self._pipeline.process(messages)
        self.ended_at = time.perf_counter()
        return outcomes


def seconds_of_collector(kind: str, url: AmqpUrl, directory: Path) -> float:
    naming, threads = KINDS[kind]
    timed: list[Timed] = []
    with closing(OutputDirectory(directory, "--directory")) as output:

        def open_stream(worker: Worker, queue: MessageQueue, in_flight: InFlightTracker) -> Stream:
            context = worker.context
            pipeline = FilePipeline(naming(), output, in_flight, context, max_attempts=3)
            timed.append(Timed(pipeline))
            return Stream(queue, in_flight, timed[0])

        run_stream(
            url,
            Settings(),
            open_stream,
            threads=threads,
            batch_size=BATCH_SIZE,
            until_empty=True,
        )
    return timed[0].ended_at - (timed[0].began_at or 0.0)


if __name__ == "__main__":
    run(main)
