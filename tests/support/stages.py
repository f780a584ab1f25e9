"""A stage pipeline over a real table of results and a sender that only remembers messages."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from product_consumer.database.connection import Database
from product_consumer.errors import QueueUnavailable
from product_consumer.models import Envelope, Message
from product_consumer.outcomes import Outcome
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.pipeline.hold import Hold
from product_consumer.queues.base import Outgoing
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.streams.results import ResultStore
from product_consumer.streams.stages.base import Outlets, Stage, StagePipeline
from product_consumer.streams.stages.outlets import Outlet
from product_consumer.streams.tracing import NO_TRACING, Tracing
from tests.support import factories


class RememberingServer:
    """Stands for a RabbitMQ server: it has queues, takes messages and may be down."""

    def __init__(self) -> None:
        self.queues: dict[str, list[Outgoing]] = defaultdict(list)
        self.is_down = False
        self.missing: set[str] = set()
        self.refusals: dict[str, str] = {}
        """Codes for bodies that are refused."""

    def sender(self, queue_name: str) -> "RememberingSender":
        if self.is_down:
            raise QueueUnavailable(queue_name, "down")
        self.missing.discard(queue_name)
        return RememberingSender(self, queue_name)

    def outlet(self, queue_name: str) -> Outlet:
        return Outlet(queue_name, lambda: self.sender(queue_name))

    def bodies(self, queue_name: str) -> list[Any]:
        return [json.loads(message.body) for message in self.queues[queue_name]]


class RememberingSender:
    """A sender to ``RememberingServer``."""

    def __init__(self, server: RememberingServer, queue_name: str) -> None:
        self._server = server
        self._queue_name = queue_name

    def send(
        self, messages: Iterable[Outgoing], *, queue_name: str | None = None
    ) -> dict[int, str]:
        name = queue_name or self._queue_name
        if self._server.is_down:
            raise QueueUnavailable(name, "down")
        codes = {}
        for position, message in enumerate(messages):
            refusal = self._server.refusals.get(str(message.body))
            if name in self._server.missing:
                codes[position] = "NoRoute"
            elif refusal is not None:
                codes[position] = refusal
            else:
                self._server.queues[name].append(message)
        return codes

    def close(self) -> None:
        pass


class StageRig:
    """A stage in its pipeline, with the queue ``out`` and, where asked for, ``results``."""

    def __init__(
        self,
        stage: Stage,
        directory: Path,
        *,
        with_results: bool = True,
        hold_seconds: float = 0.2,
        tracing: Tracing = NO_TRACING,
        context: ProcessContext | None = None,
    ) -> None:
        self.server = RememberingServer()
        self.database = Database(
            f"sqlite:///{directory / 'products.db'}", timeout_seconds=5, connections=4
        )
        self.store = ResultStore(self.database)
        self.store.setup()
        self.queue = InMemoryQueue()
        self.context = context or new_context(threading.Event(), Hold(hold_seconds))
        self.in_flight = InFlightTracker(self.queue, 30)
        results = self.server.outlet("results") if with_results else None
        self.pipeline = StagePipeline(
            stage,
            Outlets(self.server.outlet("out"), results),
            self.store,
            self.in_flight,
            self.context,
            max_attempts=3,
            tracing=tracing,
        )

    def process(self, *messages: Message) -> list[Outcome]:
        """Run messages through the pipeline as the consumer loop does."""
        with self.in_flight.track(messages), self.context.hold.messages():
            return self.pipeline.process(messages)

    def close(self) -> None:
        self.database.close()


def stream_message(body: str | bytes, **envelope: Any) -> Message:
    """A delivery from a stream queue; ``envelope``: fields of ``Envelope``."""
    said = Envelope(**envelope)
    attributes = {name: text for name, text in said.headers.items() if isinstance(text, str)}
    named = {"message_id": said.message_id} if said.message_id else {}
    return factories.message(body, envelope=said, attributes=attributes, **named)
