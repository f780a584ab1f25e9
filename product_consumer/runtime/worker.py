"""Worker: a process with its streams, from opening their components to the exit code."""

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from product_consumer.environment import read_systemd_environment
from product_consumer.pipeline.backoff import wait_until_available
from product_consumer.pipeline.context import new_context
from product_consumer.pipeline.guarded_queue import GuardedQueue
from product_consumer.pipeline.stages import stage_timeouts
from product_consumer.runtime.health_server import serving
from product_consumer.runtime.options import Options
from product_consumer.runtime.signals import Shutdown
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.supervisor import EMPTY_POLLS, Supervisor, dump_stacks_on_request
from product_consumer.runtime.systemd import Notifier
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from product_consumer.database.connection import Database

UNTIL_EMPTY_WAIT_SECONDS = 2
"""Longest poll with ``--until-empty``: a short poll ends soon after the queue ran empty."""

Consume = Callable[[threading.Event], None]
T = TypeVar("T")


class Components(Protocol):
    """The components of a stream, built from settings."""

    def opening_steps(self) -> Iterable[Callable[[], object]]:
        """Return the steps that connect to one dependency after the other.

        Each may raise ``Unavailable`` and be called again.
        """
        ...

    def close(self) -> None:
        """Close everything that was opened."""
        ...


AnyComponents = TypeVar("AnyComponents", bound=Components)


class RunsConsumer(Protocol):
    """One consumer thread."""

    def consume(self, stopping: threading.Event) -> None: ...


class Worker:
    """A worker process as a context manager, which closes in the end what was opened in it.

    It makes everything that decides about the life of the process, once: signals, stages and
    supervisor. For the main thread.
    """

    def __init__(self, settings: Settings, options: Options) -> None:
        self._settings = settings
        self._options = options
        self._shutdown = Shutdown(settings.drain_seconds, Notifier(read_systemd_environment()))
        self.context = new_context(self._shutdown.stopping)
        self._streams: list[Stream] = []
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        dump_stacks_on_request()
        with ExitStack() as opening:
            opening.enter_context(self._shutdown)
            opening.enter_context(serving(self._settings, self.context, self._shutdown))
            opening.callback(self._close_database)
            self._closing = opening.pop_all()
        return self

    def __exit__(
        self,
        type_: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._closing.__exit__(type_, error, traceback)

    @cached_property
    def database(self) -> "Database":
        """Shared by all streams of the process; connects when it is first used."""
        # Imported here: SQLAlchemy takes half a second, and a data stream may need no database.
        from product_consumer.database.connection import open_database

        return open_database(self._settings)

    def open(self, components: AnyComponents) -> AnyComponents:
        """Open components, waiting for what is down; raises ``Stopped`` when asked to stop."""
        self._closing.callback(components.close)
        for step in components.opening_steps():
            wait_until_available(step, self.context.stopping, "Waiting to start")
        return components

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter a context for as long as the worker is open."""
        return self._closing.enter_context(context)

    def add(self, stream: Stream) -> None:
        """Add a stream to consume."""
        self._streams.append(stream)

    def run(
        self,
        consumer: Callable[..., RunsConsumer],
        may_end: threading.Event | None = None,
    ) -> int:
        """Run the threads of all streams until the end; return the exit code.

        ``consumer``: called once per thread, with the arguments of ``data_management.Consumer``.
        ``may_end``: with ``--until-empty``, an empty queue ends nothing before this event. Raises
        ``FatalError``.
        """
        settings = self._settings
        self.context.stages.timeouts = stage_timeouts(
            wait_seconds=settings.sqs_wait_seconds,
            store_timeout_seconds=settings.store_timeout_seconds,
            image_timeout_seconds=settings.image_timeout_seconds,
            answer_seconds=max(stream.answer_seconds for stream in self._streams),
        )
        supervisor = Supervisor(
            self._shutdown, self._streams, self.context, drain_seconds=settings.drain_seconds
        )
        consumers = self._consumers(consumer)
        with ExitStack() as running:
            for stream in self._streams:
                running.enter_context(stream.background)
            return supervisor.run(
                consumers,
                poll_seconds=self._poll_seconds if self._options.until_empty else None,
                may_end=may_end,
            )

    def _close_database(self) -> None:
        if "database" in vars(self):
            self.database.close()

    def _consumers(self, consumer: Callable[..., RunsConsumer]) -> list[Consume]:
        """Return what the consumer threads run, one function for each."""
        settings = self._settings
        wait_seconds = settings.sqs_wait_seconds
        if self._options.until_empty:
            wait_seconds = min(wait_seconds, UNTIL_EMPTY_WAIT_SECONDS)
        queues = [
            GuardedQueue(stream.queue, stream.in_flight, self.context) for stream in self._streams
        ]
        return [
            consumer(
                first + number,
                queue,
                stream.pipeline,
                self.context,
                batch_size=settings.batch_size,
                wait_seconds=wait_seconds,
            ).consume
            for first, stream, queue in zip(
                count(1, settings.threads), self._streams, queues, strict=False
            )
            for number in range(settings.threads)
        ]

    def _poll_seconds(self) -> float:
        """Return the pause between two polls for an empty queue."""
        # The counts that end a run span the lag: see ``Supervisor.run``.
        lag_seconds = max(stream.queue.counts_lag_seconds for stream in self._streams)
        return max(1.0, lag_seconds / EMPTY_POLLS)
