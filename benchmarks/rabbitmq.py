"""RabbitMQ: what the worker's queue and its sender reach beside pika alone, on a real server.

    python -m benchmarks.rabbitmq [--messages 30000] [--bytes 300] [--rounds 3]

Each round measures every way once, one after the other, on classic and on quorum queues:

    pika             BlockingConnection, prefetch 100, one acknowledgement each
    queue            ten threads that receive tens and acknowledge them
    loop             ten consumers of data_management.py with a pipeline that does nothing
    pika, confirmed  sends with at most 1,000 messages that are not yet confirmed
    sender           the worker's sender

Time runs from the first message to the end of the connection, so everything is settled. ``cpu`` is
of this process, per message. Last, the server's application is stopped and started: the time from
the moment at which the server takes connections again to the first message.

The goals are ratios to pika of the same round; the medians of all rounds count. Needs
rabbitmq-server. Takes about three minutes.
"""

import argparse
import logging
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
from pika.adapters.select_connection import SelectConnection

from benchmarks.support.measuring import markdown, middle
from benchmarks.support.program import command, print_progress, run
from data_management import Consumer
from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Stored
from product_consumer.pipeline.context import new_context
from product_consumer.pipeline.guarded_queue import GuardedQueue
from product_consumer.queues.base import MessageQueue, Outgoing
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.rabbitmq.opening import open_stream_queue, open_stream_sender
from product_consumer.queues.rabbitmq.url import read_url
from product_consumer.settings import Settings
from tests.support import backends
from tests.support.rabbitmq import QUORUM, RabbitClient
from tests.support.rabbitmq_node import RabbitNode
from tests.support.tools import MissingTool

THREADS = 10
BATCH_SIZE = 10
PREFETCH = 100
OUTSTANDING = 1_000
LEASE_SECONDS = 600
WAIT_SECONDS = 1
RESTARTS = 3
OUTAGE_SECONDS = 5.0
KINDS = {"classic": {}, "quorum": QUORUM}
GOALS = {"queue": (1.0, 0.9), "loop": (0.9, 0.8), "sender": (0.8, 0.6)}
"""Ratio to pika, and the least that is accepted."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One way in one round."""

    rate: float
    """Messages per second."""
    cpu_ms: float
    """Of this process, per message."""


class Clock:
    """Runs from the first message to ``stop``."""

    def __init__(self) -> None:
        self._began_at = 0.0
        self._cpu_before = 0.0

    def start(self) -> None:
        """Start, unless it runs; any thread may call it."""
        if not self._began_at:
            self._cpu_before = time.process_time()
            self._began_at = time.perf_counter()

    def stop(self, messages: int) -> Measured:
        seconds = time.perf_counter() - self._began_at
        return Measured(
            messages / seconds, 1000 * (time.process_time() - self._cpu_before) / messages
        )


class Countdown:
    """Counts what threads have done, and tells when that is enough."""

    def __init__(self, count: int) -> None:
        self.done = threading.Event()
        self._left = count
        self._lock = threading.Lock()

    def count(self, done: int) -> None:
        with self._lock:
            self._left -= done
        if self._left <= 0:
            self.done.set()


@dataclass(frozen=True, slots=True)
class Bench:
    """A server, and how many messages of which body each way handles."""

    node: RabbitNode
    settings: Settings
    messages: int
    body: bytes

    def open(self, queue: str) -> MessageQueue:
        url = read_url(self.node.url(queue), "queue")
        return open_stream_queue(url, self.settings, label="RabbitMQ", prefetch=PREFETCH)

    @contextmanager
    def filled(self, kind: str) -> Iterator[str]:
        """A queue with all messages."""
        with RabbitClient(self.node) as client:
            name = client.new_queue("filled", KINDS[kind])
            client.publish_many(name, [self.body] * self.messages, seconds=120)
            yield name

    @contextmanager
    def empty(self, kind: str) -> Iterator[str]:
        """A queue that must have all messages in the end."""
        with RabbitClient(self.node) as client:
            name = client.new_queue("empty", KINDS[kind])
            yield name
            client.wait_for(name, self.messages)


def take_with_pika(bench: Bench, kind: str) -> Measured:
    clock = Clock()
    left = bench.messages

    def take(channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        nonlocal left
        clock.start()
        channel.basic_ack(method.delivery_tag)
        left -= 1
        if not left:
            channel.stop_consuming()

    with bench.filled(kind) as name:
        connection = pika.BlockingConnection(pika.URLParameters(bench.node.url()))
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(name, take)
        channel.start_consuming()
        connection.close()
        return clock.stop(bench.messages)


def take_with_queue(bench: Bench, kind: str) -> Measured:
    clock, countdown = Clock(), Countdown(bench.messages)

    def take(queue: MessageQueue) -> None:
        while not countdown.done.is_set():
            messages = queue.receive(BATCH_SIZE, WAIT_SECONDS)
            if messages:
                clock.start()
                queue.acknowledge(messages)
                countdown.count(len(messages))

    with bench.filled(kind) as name:
        queue = bench.open(name)
        threads = [threading.Thread(target=take, args=(queue,)) for _ in range(THREADS)]
        return _measured(bench, clock, countdown, queue, threads)


class CountingPipeline:
    """A pipeline that does nothing with a message but count it."""

    def __init__(self, clock: Clock, countdown: Countdown) -> None:
        self._clock = clock
        self._countdown = countdown

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        self._clock.start()
        self._countdown.count(len(messages))
        return [Stored(message.message_id) for message in messages]

    def wait_until_ready(self) -> bool:
        return True


def take_with_loop(bench: Bench, kind: str) -> Measured:
    clock, countdown = Clock(), Countdown(bench.messages)
    context = new_context(countdown.done)
    pipeline = CountingPipeline(clock, countdown)
    with bench.filled(kind) as name:
        queue = bench.open(name)
        tracker = InFlightTracker(queue, LEASE_SECONDS)
        guarded = GuardedQueue(queue, tracker, context)
        threads = [
            threading.Thread(
                target=Consumer(
                    number,
                    guarded,
                    pipeline,
                    context,
                    batch_size=BATCH_SIZE,
                    wait_seconds=WAIT_SECONDS,
                ).consume,
                args=(countdown.done,),
            )
            for number in range(THREADS)
        ]
        tracker.start()
        try:
            return _measured(bench, clock, countdown, queue, threads)
        finally:
            tracker.stop()


def _measured(
    bench: Bench,
    clock: Clock,
    countdown: Countdown,
    queue: MessageQueue,
    threads: Sequence[threading.Thread],
) -> Measured:
    for thread in threads:
        thread.start()
    countdown.done.wait()
    # Before the threads end: each waits once more for a message that does not come.
    measured = clock.stop(bench.messages)
    for thread in threads:
        thread.join()
    queue.close()
    return measured


class ConfirmedPublisher:
    """Sends with pika's own event loop; a confirmation makes room for another message."""

    def __init__(self, bench: Bench, queue: str, clock: Clock) -> None:
        self._bench, self._queue, self._clock = bench, queue, clock
        self._sent = self._confirmed = 0
        self._properties = pika.BasicProperties(delivery_mode=2)
        parameters = pika.URLParameters(bench.node.url())
        self._connection = SelectConnection(parameters, on_open_callback=self._connected)
        self._channel: Any = None

    def run(self) -> None:
        self._connection.ioloop.start()

    def _connected(self, connection: Any) -> None:
        self._channel = connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Any) -> None:
        channel.confirm_delivery(self._acknowledged, callback=lambda _frame: self._fill())

    def _acknowledged(self, frame: Any) -> None:
        is_many = frame.method.multiple
        self._confirmed = frame.method.delivery_tag if is_many else self._confirmed + 1
        self._fill()

    def _fill(self) -> None:
        self._clock.start()
        while self._sent < self._bench.messages and self._sent - self._confirmed < OUTSTANDING:
            self._channel.basic_publish(
                "", self._queue, self._bench.body, self._properties, mandatory=True
            )
            self._sent += 1
        if self._confirmed >= self._bench.messages:
            self._connection.add_on_close_callback(lambda *_reason: self._connection.ioloop.stop())
            self._connection.close()


def send_with_pika(bench: Bench, kind: str) -> Measured:
    clock = Clock()
    with bench.empty(kind) as name:
        ConfirmedPublisher(bench, name, clock).run()
        return clock.stop(bench.messages)


def send_with_sender(bench: Bench, kind: str) -> Measured:
    clock = Clock()
    with bench.empty(kind) as name:
        sender = open_stream_sender(read_url(bench.node.url(name), "queue"), bench.settings)
        clock.start()
        refused = sender.send(Outgoing(bench.body, {}) for _ in range(bench.messages))
        sender.close()
        if refused:
            raise RuntimeError(f"{len(refused)} messages were refused")
        return clock.stop(bench.messages)


WAYS: dict[str, tuple[str, Callable[[Bench, str], Measured]]] = {
    "pika": ("", take_with_pika),
    "queue": ("pika", take_with_queue),
    "loop": ("pika", take_with_loop),
    "pika, confirmed": ("", send_with_pika),
    "sender": ("pika, confirmed", send_with_sender),
}
"""Each way with the one that it is compared to."""


def seconds_until_first_message(bench: Bench) -> float:
    """Return the time from the server's return to the first message, of a worker that waits."""
    with RabbitClient(bench.node) as client:
        name = client.new_queue("restarted")
        client.publish(name, b"first")
        queue = bench.open(name)
        held = queue.receive(1, 10)
        bench.node.ctl("stop_app")
        arrived_at: list[float] = []

        def wait() -> None:
            while not arrived_at:
                try:
                    arrived_at.extend(time.monotonic() for _ in queue.receive(1, WAIT_SECONDS))
                except QueueUnavailable:
                    time.sleep(0.1)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(OUTAGE_SECONDS)
        starting = threading.Thread(target=bench.node.ctl, args=("start_app",))
        starting.start()
        while not backends.accepts_connections(bench.node.url()):
            time.sleep(0.02)
        back_at = time.monotonic()
        waiting.join()
        starting.join()
        queue.close()
        if len(held) != 1:
            raise RuntimeError("the message did not come before the stop")
        return arrived_at[0] - back_at


def main() -> None:
    options = read_options()
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("product_consumer").setLevel(logging.ERROR)
    results: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    try:
        node = RabbitNode()
    except MissingTool as missing:
        raise SystemExit(str(missing)) from None
    with node, tempfile.TemporaryDirectory() as scratch:
        settings = Settings(data_dir=Path(scratch), visibility_timeout_seconds=LEASE_SECONDS)
        bench = Bench(node, settings, options.messages, b"x" * options.bytes)
        for number in range(1, options.rounds + 1):
            for kind in KINDS:
                for name, (_, measure) in WAYS.items():
                    measured = measure(bench, kind)
                    results[kind, name].append(measured)
                    print_progress(f"round {number}: {kind}, {name}: {measured.rate:.0f}/s")
        restarts = [seconds_until_first_message(bench) for _ in range(RESTARTS)]
        version = node.version
    print(f"{command()}, RabbitMQ {version}: {options.messages} messages of {options.bytes} bytes")
    print(report(results))
    print(
        f"\nFirst message after start_app: {middle(restarts):.1f} s (median of {RESTARTS},"
        f" {min(restarts):.1f} to {max(restarts):.1f}); goal 3, at most 6"
    )


def report(results: dict[tuple[str, str], list[Measured]]) -> str:
    """Return a table of all ways, with their ratios to pika."""
    rows = []
    for (kind, name), measured in results.items():
        base = WAYS[name][0]
        ratio = goal = ""
        if base:
            pairs = zip(measured, results[kind, base], strict=True)
            ratios = [one.rate / other.rate for one, other in pairs]
            ratio = f"{middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            goal = "{} ({})".format(*GOALS[name])
        rate = f"{middle(one.rate for one in measured):.0f}"
        cpu = f"{middle(one.cpu_ms for one in measured):.3f}"
        rows.append((f"{kind}, {name}", rate, cpu, ratio, goal))
    return markdown(("", "messages/s", "cpu ms", "of pika", "goal (least)"), rows)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="RabbitMQ: our queue and sender beside pika")
    parser.add_argument("--messages", type=int, default=30_000, help="of each way and round")
    parser.add_argument("--bytes", type=int, default=300, help="of each body")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
