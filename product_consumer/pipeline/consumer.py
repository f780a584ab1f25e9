"""Consumer: the loop of one thread, the same for every stream: receive, process, settle."""

import logging
import threading
from collections.abc import Sequence

from product_consumer.models import Message
from product_consumer.outcomes import Outcome, Rejected, Released
from product_consumer.pipeline.base import Pipeline
from product_consumer.pipeline.context import ProcessContext
from product_consumer.pipeline.guarded_queue import GuardedQueue

log = logging.getLogger(__name__)


class Consumer:
    """The loop of one consumer thread: receive, process, settle."""

    def __init__(
        self,
        number: int,
        queue: GuardedQueue,
        pipeline: Pipeline,
        context: ProcessContext,
        *,
        batch_size: int,
        wait_seconds: int,
    ) -> None:
        self.number = number
        self._queue = queue
        self._pipeline = pipeline
        self._stages = context.stages
        self._metrics = context.metrics
        self._batch_size = batch_size
        self._wait_seconds = wait_seconds

    def consume(self, stopping: threading.Event) -> None:
        """Receive and process batches until asked to stop; a batch in work is settled first."""
        log.info("Thread %d started consuming from %s...", self.number, self._queue.label)
        while not stopping.is_set() and self._pipeline.wait_until_ready():
            with self._stages.stage("receive"):
                messages = self._queue.receive(self._batch_size, self._wait_seconds)
            if stopping.is_set():
                self._queue.give_back([(message, Released("a stop")) for message in messages])
                break
            self._metrics.count_received(len(messages))
            with self._queue.holding(messages):
                outcomes = self._pipeline.process(messages) if messages else []
                with self._stages.stage("settle"):
                    self._report(self._queue.settle(messages, outcomes))

    def _report(self, settled: Sequence[tuple[Message, Outcome]]) -> None:
        """Count and log what the queue has confirmed."""
        for message, outcome in settled:
            if isinstance(outcome, Rejected):
                self._metrics.count_dead_letter(outcome.reason)
            self._metrics.count_outcome(outcome, message)
            log.log(
                outcome.level, "Thread %d %s", self.number, outcome.in_words(message.message_id)
            )
