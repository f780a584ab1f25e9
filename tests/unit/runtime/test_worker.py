"""Several streams in one process: one supervisor watches the threads of all of them."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from data_management import Consumer
from product_consumer.errors import StoreUnavailable
from product_consumer.metrics import Metrics
from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Stored
from product_consumer.pipeline.backoff import Stopped
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.pipeline.guarded_queue import GuardedQueue
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.runtime import supervisor as supervisor_module
from product_consumer.runtime.exit_codes import EXIT_OK
from product_consumer.runtime.options import Options
from product_consumer.runtime.signals import Shutdown
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.supervisor import Supervisor
from product_consumer.runtime.worker import Worker
from product_consumer.settings import Settings
from tests.support.metrics import received

ALLOWED_SECONDS = 0.5


class StoresEverything:
    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        return [Stored(message.message_id) for message in messages]

    def wait_until_ready(self) -> bool:
        return True


def stream_of(queue: InMemoryQueue) -> Stream:
    return Stream(queue, InFlightTracker(queue, 30), StoresEverything())


def consumer_of(number: int, stream: Stream, context: ProcessContext) -> Consumer:
    return Consumer(
        number,
        GuardedQueue(stream.queue, stream.in_flight, context),
        stream.pipeline,
        context,
        batch_size=10,
        wait_seconds=0,
    )


@pytest.fixture
def ended_as_hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sequence[str]]]:
    """The overdue threads for which the supervisor would have ended this process."""
    ends: list[Sequence[str]] = []

    def remember(supervisor: Supervisor, overdue: Sequence[str]) -> None:
        ends.append(overdue)
        supervisor._shutdown.stopping.set()

    monkeypatch.setattr(Supervisor, "_end_hanging", remember)
    monkeypatch.setattr(supervisor_module, "_CHECK_SECONDS", 0.02)
    yield ends


def run_for(
    seconds: float, shutdown: Shutdown, streams: list[Stream], contexts: list[ProcessContext]
) -> int:
    """Run one consumer of each stream, each with its own counters, for a while."""
    timer = threading.Timer(seconds, shutdown.stopping.set)
    timer.start()
    try:
        consumers = [
            consumer_of(number, stream, context)
            for number, (stream, context) in enumerate(zip(streams, contexts, strict=True), 1)
        ]
        supervisor = Supervisor(shutdown, streams, contexts[0], drain_seconds=5)
        return supervisor.run([consumer.consume for consumer in consumers], poll_seconds=None)
    finally:
        timer.cancel()


def test_threads_of_a_stream_with_counters_of_its_own_are_seen_alive(
    ended_as_hanging: list[Sequence[str]],
) -> None:
    queues = [InMemoryQueue(), InMemoryQueue()]
    for queue in queues:
        queue.send("body")
    with Shutdown(5) as shutdown:
        first = new_context(shutdown.stopping)
        second = ProcessContext(shutdown.stopping, Metrics(), first.stages)
        first.stages.timeouts = dict.fromkeys(
            ("start", "receive", "settle", "extend", "between stages"), ALLOWED_SECONDS
        )
        code = run_for(4 * ALLOWED_SECONDS, shutdown, [*map(stream_of, queues)], [first, second])

    assert (code, ended_as_hanging) == (EXIT_OK, [])
    assert (received(first.metrics), received(second.metrics)) == (1, 1)


def test_a_thread_that_hangs_in_the_second_stream_ends_the_process(
    ended_as_hanging: list[Sequence[str]],
) -> None:
    class Hangs(StoresEverything):
        def wait_until_ready(self) -> bool:
            return not shutdown.stopping.wait(30)

    with Shutdown(5) as shutdown:
        context = new_context(shutdown.stopping)
        context.stages.timeouts = {"start": ALLOWED_SECONDS}
        queue = InMemoryQueue()
        hanging = Stream(queue, InFlightTracker(queue, 30), Hangs())
        run_for(20, shutdown, [stream_of(InMemoryQueue()), hanging], [context, context])

    assert len(ended_as_hanging) == 1
    assert ended_as_hanging[0][0].startswith("consumer-2 has been at start for")


def test_every_stream_of_a_worker_gets_the_context_that_its_supervisor_watches(
    tmp_path: Path, ended_as_hanging: list[Sequence[str]]
) -> None:
    contexts: list[ProcessContext] = []

    class Remembers(Consumer):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            contexts.append(arguments[3])  # type: ignore[arg-type]

    settings = Settings(data_dir=tmp_path, threads=2)
    with Worker(settings, Options((), until_empty=True)) as worker:
        for _ in range(2):
            worker.add(stream_of(InMemoryQueue()))
        timer = threading.Timer(0.3, worker.context.stopping.set)
        timer.start()
        code = worker.run(Remembers)

    assert code == EXIT_OK
    assert contexts == [worker.context] * 4


@pytest.mark.parametrize(("lag_seconds", "poll_seconds"), [(0.0, 1.0), (60.0, 30.0)])
def test_the_polls_that_end_a_run_span_the_lag_of_the_slowest_counts(
    tmp_path: Path, lag_seconds: float, poll_seconds: float
) -> None:
    lagging = InMemoryQueue()
    lagging.counts_lag_seconds = lag_seconds
    with Worker(Settings(data_dir=tmp_path), Options((), until_empty=True)) as worker:
        for queue in (lagging, InMemoryQueue()):
            worker.add(stream_of(queue))

        assert worker._poll_seconds() == poll_seconds


def test_components_are_closed_when_a_start_is_stopped(tmp_path: Path) -> None:
    class DownForEver:
        closed = False

        def opening_steps(self) -> Sequence[object]:
            return (self.fail,)

        def fail(self) -> None:
            worker.context.stopping.set()
            raise StoreUnavailable("milvus", "no answer")

        def close(self) -> None:
            self.closed = True

    components = DownForEver()
    with pytest.raises(Stopped), Worker(Settings(data_dir=tmp_path), Options(())) as worker:
        worker.open(components)  # type: ignore[type-var]

    assert components.closed
