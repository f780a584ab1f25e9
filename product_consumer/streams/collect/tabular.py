"""What happens to a record: read, written as one line of JSON, then acknowledged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Stored
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.streams.collect.lines import DEPENDENCY, Lines
from product_consumer.streams.records import json_line, read_record
from product_consumer.streams.tracing import NO_TRACING, Tracing


@dataclass(slots=True, eq=False)
class RecordMessage:
    """A message on its way into a line. For one thread at a time."""

    message: Message
    outcome: Outcome | None = None
    line: str = field(default="", repr=False)


class TabularPipeline:
    """The steps of a record: read, write. Any thread may call it.

    A batch costs one write, and one flush where the lines go to a file. ``on_written`` is called
    with the number of lines; it must neither block nor raise.
    """

    def __init__(
        self,
        lines: Lines,
        in_flight: InFlightTracker,
        context: ProcessContext,
        *,
        max_attempts: int,
        tracing: Tracing = NO_TRACING,
        on_written: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._in_flight = in_flight
        self._context = context
        self._max_attempts = max_attempts
        self._tracing = tracing
        self._on_written = on_written
        self._breakers = Breakers({DEPENDENCY: lines.probe}, context)
        self._is_ascii = lines.is_ascii
        self._write = self._breakers.guarded(DEPENDENCY, "write", lines.write)

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order; raises ``FatalError`` only."""
        items = map(RecordMessage, messages)
        with (
            self._tracing.processing(messages),
            Batch(items, self._context, max_attempts=self._max_attempts) as batch,
        ):
            with batch.stage("validate"):
                valid = batch.each("validate", batch.items, self._read)
            held = batch.release_lost(valid, self._in_flight.is_held)
            with batch.stage("write"):
                if held:
                    self._write([item.line for item in held])
            for item in held:
                item.outcome = Stored(item.message.message_id)
            self._on_written(len(held))
        return batch.outcomes()

    def wait_until_ready(self) -> bool:
        """Block while no line can be written; False when asked to stop."""
        return self._breakers.wait_until_closed()

    def _read(self, item: RecordMessage) -> None:
        record = read_record(item.message.body, item.message.envelope)
        item.line = json_line(record, is_ascii=self._is_ascii)
