"""What happens to a picture or a text: checked, saved as a file, then acknowledged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Stored
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.streams.collect.directory import DEPENDENCY, NewFile, OutputDirectory
from product_consumer.streams.collect.naming import Naming
from product_consumer.streams.tracing import NO_TRACING, Tracing

ALREADY_THERE = "already_there"
"""Flag of a message whose file was there before, byte for byte."""


@dataclass(slots=True, eq=False)
class FileMessage:
    """A message on its way into a file. For one thread at a time."""

    message: Message
    outcome: Outcome | None = None
    file: NewFile = field(init=False, repr=False)
    """The file that it becomes; set when the message is checked."""


class FilePipeline:
    """The steps of a message that becomes a file: check, save, flush. Any thread may call it.

    A batch costs one flush of the directory. ``on_saved`` is called with the number of files that
    are new, and of those that were there; it must neither block nor raise.
    """

    def __init__(
        self,
        naming: Naming,
        directory: OutputDirectory,
        in_flight: InFlightTracker,
        context: ProcessContext,
        *,
        max_attempts: int,
        tracing: Tracing = NO_TRACING,
        on_saved: Callable[[int, int], None] = lambda _new, _there: None,
    ) -> None:
        self._naming = naming
        self._in_flight = in_flight
        self._context = context
        self._max_attempts = max_attempts
        self._tracing = tracing
        self._on_saved = on_saved
        self._breakers = Breakers({DEPENDENCY: directory.probe}, context)
        guarded = partial(self._breakers.guarded, DEPENDENCY)
        self._save = guarded("save", directory.save)
        self._sync = guarded("flush", directory.sync)

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order; raises ``FatalError`` only."""
        items = map(FileMessage, messages)
        with (
            self._tracing.processing(messages),
            Batch(items, self._context, max_attempts=self._max_attempts) as batch,
        ):
            with batch.stage("validate"):
                valid = batch.each("validate", batch.items, self._check)
            held = batch.release_lost(valid, self._in_flight.is_held)
            with batch.stage("save"):
                self._save_all(held)
        return batch.outcomes()

    def wait_until_ready(self) -> bool:
        """Block while the directory takes no files; False when asked to stop."""
        return self._breakers.wait_until_closed()

    def _check(self, item: FileMessage) -> None:
        message, naming = item.message, self._naming
        naming.check(message)
        data = message.body if isinstance(message.body, bytes) else message.body.encode()
        names = naming.names(message, data)
        item.file = NewFile(names, data, same_is_saved=naming.is_repeatable(message))

    def _save_all(self, items: Sequence[FileMessage]) -> None:
        """Save files and flush their names; only then their messages are done."""
        if not items:
            return
        self._save([item.file for item in items])
        self._sync()
        for item in items:
            item.outcome = Stored(item.file.name)
        there = sum(not item.file.is_new for item in items)
        self._context.metrics.count_flags((ALREADY_THERE,) * there)
        self._on_saved(len(items) - there, there)
