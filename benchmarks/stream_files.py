"""How fast collectors save pictures and words, beside writing the same files alone.

    python -m benchmarks.stream_files [--files N] [--bytes N] [--rounds N] [--directory DIR]

Alone: for each file one write, one fsync and one link, one after another in one thread. Ours: the
whole collector, from a real RabbitMQ through the consumer loop to acknowledged messages. Both run
in turns, over the same files, in a new folder of ``--directory`` each time. That should lie on a
disk: in memory an fsync costs nothing. Prints files per second and the ratio of each round.
"""

import argparse
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.support.measuring import middle
from benchmarks.support.program import print_progress, run
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
from product_consumer.streams.produce.sending import StreamSender
from product_consumer.streams.worker import run_stream
from tests.support.rabbitmq_node import RabbitNode

WORD_BYTES = 7
# As ``collect images`` and ``collect texts`` have them by default.
KINDS: dict[str, tuple[Callable[[], Naming], int]] = {
    "pictures": (PictureNaming, 2),
    "words": (partial(TextNaming, ()), 1),
}


def main() -> None:
    options = read_options()
    sizes = {"pictures": options.bytes, "words": WORD_BYTES}
    scratch = Path(tempfile.mkdtemp(prefix="stream-files-", dir=options.directory))
    try:
        with RabbitNode() as node:
            print(f"{'kind':<10} {'alone /s':>9} {'ours /s':>9} {'ratio':>6}")
            for kind, size_bytes in sizes.items():
                compare(kind, bodies_of(options.files, size_bytes), node, scratch, options.rounds)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the collectors of pictures and words.")
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--bytes", type=int, default=30_000, help="of a picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path(), help="on the disk to measure")
    return parser.parse_args()


def compare(
    kind: str, bodies: Sequence[bytes], node: RabbitNode, scratch: Path, rounds: int
) -> None:
    ratios = []
    for number in range(rounds):
        alone = len(bodies) / seconds_alone(scratch / f"{kind}-alone-{number}", bodies)
        url = read_url(node.url(f"{kind}-{number}"), "url")
        send(url, bodies)
        ours = len(bodies) / seconds_of_collector(kind, url, scratch / f"{kind}-ours-{number}")
        ratios.append(ours / alone)
        print(f"{kind:<10} {alone:>9,.0f} {ours:>9,.0f} {ratios[-1]:>6.2f}", flush=True)
    print(f"{kind:<10} median {middle(ratios):>19.2f}")


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
    print_progress(f"sending {len(bodies)} messages")
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

        run_stream(url, Settings(), open_stream, threads=threads, until_empty=True)
    return timed[0].ended_at - (timed[0].began_at or 0.0)


if __name__ == "__main__":
    run(main)
