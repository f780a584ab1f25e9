"""A worker process on one data stream, its pipeline and exit codes; the queue is in memory."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError, FatalError
from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Stored
from product_consumer.queues.base import MessageQueue
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.queues.rabbitmq.url import read_server
from product_consumer.runtime.exit_codes import EXIT_CONFIGURATION, EXIT_FATAL, EXIT_OK
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.worker import Worker
from product_consumer.settings import Settings
from product_consumer.streams import worker as worker_module
from product_consumer.streams.worker import run_stream

URL = read_server("127.0.0.1", "--rabbitmq_server", "records", user="guest", password="guest")


class Remembers:
    """A pipeline that keeps what it was given."""

    def __init__(self) -> None:
        self.bodies: list[str | bytes] = []

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        self.bodies += [message.body for message in messages]
        return [Stored(message.message_id) for message in messages]

    def wait_until_ready(self) -> bool:
        return True


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> InMemoryQueue:
    queue = InMemoryQueue()

    def open_queue(source: worker_module._Source) -> None:
        source.queue = queue
        source.in_flight = InFlightTracker(queue, 30)

    monkeypatch.setattr(worker_module._Source, "open_queue", open_queue)
    return queue


def run(tmp_path: Path, pipeline: Remembers, *, until_empty: bool = True, threads: int = 2) -> int:
    def open_stream(_: Worker, queue: MessageQueue, in_flight: InFlightTracker) -> Stream:
        return Stream(queue, in_flight, pipeline)

    settings = Settings(data_dir=tmp_path)
    return run_stream(URL, settings, open_stream, threads=threads, until_empty=until_empty)


def test_every_message_goes_through_the_pipeline_until_the_queue_is_empty(
    tmp_path: Path, queue: InMemoryQueue
) -> None:
    for number in range(25):
        queue.send(str(number))
    pipeline = Remembers()

    assert run(tmp_path, pipeline) == EXIT_OK
    assert sorted(pipeline.bodies) == sorted(map(str, range(25)))
    assert queue.backlog().is_empty


def test_a_signal_ends_it_with_0(tmp_path: Path, queue: InMemoryQueue) -> None:
    class Interrupts(Remembers):
        def process(self, messages: Sequence[Message]) -> list[Outcome]:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().process(messages)

    queue.send("the last")

    assert run(tmp_path, Interrupts(), until_empty=False) == EXIT_OK
    assert queue.backlog().is_empty


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("--output_directory", "is a file"), EXIT_CONFIGURATION),
        (FatalError("nobody reads"), EXIT_FATAL),
    ],
)
def test_an_error_at_the_start_becomes_an_exit_code(
    tmp_path: Path, queue: InMemoryQueue, error: Exception, code: int
) -> None:
    def open_stream(_: Worker, __: MessageQueue, ___: InFlightTracker) -> Stream:
        raise error

    assert run_stream(URL, Settings(data_dir=tmp_path), open_stream, threads=1) == code


def test_a_stream_that_needs_no_database_opens_none(tmp_path: Path, queue: InMemoryQueue) -> None:
    run(tmp_path, Remembers())

    assert list(tmp_path.iterdir()) == []
