"""What happens to a message of a stage: work -> publish -> record -> answer -> acknowledge.

A stage makes a result of each message. ``StagePipeline`` brings it to the next queue, to the queue
of results, to the table and to the client, in this order, each confirmed. The consumer loop then
acknowledges the message. A crash in between repeats a result under the same message id.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from product_consumer.errors import ConfigurationError, FatalError, Unavailable
from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Rejected, Released, Stored
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext
from product_consumer.queues.base import Outgoing
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.streams.results import DONE, REJECTED, ResultStore, StageResult
from product_consumer.streams.stages.item import StageItem
from product_consumer.streams.stages.outlets import Outlet, result_message
from product_consumer.streams.tracing import NO_TRACING, Tracing
from product_consumer.text import printable

log = logging.getLogger(__name__)

LEDGER = "ledger"
"""The dependency that has the table of results."""

Items = list[StageItem]
StageBatch = Batch[StageItem]


class Stage(Protocol):
    """The work of one stage. Any thread may call it."""

    name: str
    """``preprocess``, ``features``, ``classify`` or ``anomaly``."""

    def work(self, batch: StageBatch, items: Items) -> Items:
        """Set the ``result`` of each item, and return the items that have one.

        What the message is to blame for settles its own item (``Batch.each`` and ``accept``).
        Errors that leave this method settle all items without an outcome.
        """
        ...

    def finished(self, items: Items) -> None:
        """Told of the items whose results are where they belong; neither blocks nor raises."""
        ...

    def wait_until_ready(self) -> bool:
        """Block while a dependency of the stage's own is down; False when asked to stop."""
        ...


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the results of a stage go beside the table; None where they do not."""

    out: Outlet | None = None
    """To the next stage."""
    results: Outlet | None = None
    """To the queue of results. The stage that has it answers clients and fills the table."""

    @property
    def all(self) -> list[Outlet]:
        """The queues, in the order in which results reach them."""
        return [outlet for outlet in (self.out, self.results) if outlet is not None]


class StagePipeline:
    """The pipeline of one stage, as the consumer loop calls it. Any thread may call it.

    The stage with a queue of results records all its results in the table; each stage records the
    messages that it rejects, so that nobody waits for them.
    """

    def __init__(
        self,
        stage: Stage,
        outlets: Outlets,
        store: ResultStore,
        in_flight: InFlightTracker,
        context: ProcessContext,
        *,
        max_attempts: int,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._stage = stage
        self._outlets = outlets
        self._in_flight = in_flight
        self._context = context
        self._max_attempts = max_attempts
        self._tracing = tracing
        probes: dict[str, Callable[[], object]] = {LEDGER: store.probe}
        # Only a result shows that a queue takes results again, and a thread has one in hand.
        probes |= {_dependency(outlet): outlet.open for outlet in outlets.all}
        self._breakers = Breakers(probes, context)
        self._record = self._breakers.guarded(LEDGER, "record", store.record)

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order; raises ``FatalError`` only."""
        items = map(StageItem, messages)
        with (
            self._tracing.processing(messages),
            Batch(items, self._context, max_attempts=self._max_attempts) as batch,
        ):
            finished = self._stage.work(batch, batch.items)
            self.publish(batch, finished)
        self._record_rejected(batch)
        return batch.outcomes()

    def wait_until_ready(self) -> bool:
        """Block while the ledger or a queue of results is down; False when asked to stop."""
        return self._breakers.wait_until_closed() and self._stage.wait_until_ready()

    def publish(self, batch: StageBatch, finished: Items) -> None:
        """Bring the results to every place, each confirmed; then their messages are stored."""
        held = batch.release_lost(finished, self._in_flight.is_held)
        with batch.stage("publish"):
            for outlet in self._outlets.all:
                self._context.stages.touch()
                held = self._send(batch, held, outlet)
        if self._outlets.results is not None:
            with batch.stage("results"):
                self._record([self._row(item, DONE) for item in held])
            with batch.stage("publish"):
                self._answer(held)
        self._stage.finished(held)
        for item in held:
            item.outcome = Stored(printable(item.correlation_id))

    def _send(self, batch: StageBatch, items: Items, outlet: Outlet) -> Items:
        # The stage that answers is the last one that the client waits for.
        keeps_client = self._outlets.results is None
        with self._tracing.sending(outlet.queue_name, [item.message for item in items]) as traces:
            messages = list(self._messages(items, traces, keeps_client=keeps_client))
            refused = self._breakers.call(
                _dependency(outlet), "publish", partial(outlet.send, messages)
            )
        batch.fail("publish", items, refused)
        return batch.undecided(items)

    def _messages(
        self, items: Items, traces: Sequence[Mapping[str, str]], *, keeps_client: bool = False
    ) -> Iterable[Outgoing]:
        for item, trace in zip(items, traces, strict=True):
            if item.result is None:
                raise ValueError("a stage returned an item without a result")
            reply_to = item.message.envelope.reply_to if keeps_client else ""
            yield result_message(self._stage.name, item, item.result, trace, reply_to=reply_to)

    def _answer(self, items: Items) -> None:
        """Send results to the clients that asked for an answer; a client may have gone."""
        outlet = self._outlets.results
        waiting: dict[str, Items] = {}
        for item in items:
            if item.message.envelope.reply_to:
                waiting.setdefault(item.message.envelope.reply_to, []).append(item)
        for queue_name, asked in waiting.items():
            with self._tracing.sending(queue_name, [item.message for item in asked]) as traces:
                messages = list(self._messages(asked, traces))
                if outlet is not None:
                    action = partial(outlet.reply, queue_name, messages)
                    gone = self._breakers.call(_dependency(outlet), "answer", action)
                    self._context.metrics.count_flags(("reply_unroutable",) * gone)

    def _row(self, item: StageItem, status: str, reason: str | None = None) -> StageResult:
        result = None if status == REJECTED else item.result
        return StageResult(
            item.correlation_id,
            self._stage.name,
            item.kind if result is None else result.kind,
            status,
            None if result is None else result.row,
            reason,
            None if result is None else result.model,
            datetime.now(UTC),
        )

    def _record_rejected(self, batch: StageBatch) -> None:
        """Tell table and clients which messages are rejected, before the queue lets go of them."""
        rejected = {
            item: item.outcome for item in batch.items if isinstance(item.outcome, Rejected)
        }
        if not rejected:
            return
        rows = [self._row(item, REJECTED, outcome.reason) for item, outcome in rejected.items()]
        try:
            self._record(rows)
            if self._outlets.results is not None:
                self._answer(list(map(self._refused, rejected, rejected.values())))
        except (Unavailable, ConfigurationError) as error:
            for item in rejected:
                item.outcome = Released(str(error))
        except FatalError:
            raise
        except Exception:
            # The dead-letter queue gets the same reasons; its copies must not wait for this table.
            log.exception("Rejected messages could not be told in the table of results")

    def _refused(self, item: StageItem, outcome: Rejected) -> StageItem:
        """Return the item with what its client is told."""
        item.finish(REJECTED, stage=self._stage.name, reason=outcome.reason, source=item.source)
        return item


def _dependency(outlet: Outlet) -> str:
    return f"queue {printable(outlet.queue_name)}"
