"""Stream: one kind of message of a worker, open and ready to be consumed."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Their packages load boto3, which a start that only reports a wrong setting should not wait
    # for.
    from product_consumer.pipeline.base import Pipeline
    from product_consumer.queues.base import MessageQueue
    from product_consumer.queues.in_flight import InFlightTracker


def _nothing_failed() -> None:
    """Report no failure: this stream has nothing that can fail for good."""


def _leave_nothing() -> None:
    """Do nothing: this stream records no messages in work."""


@dataclass(frozen=True, slots=True)
class Stream:
    """An open queue with the pipeline of its messages. Frozen; its members are thread-safe."""

    queue: "MessageQueue"
    in_flight: "InFlightTracker"
    """The messages that were received from the queue and are not settled yet."""
    pipeline: "Pipeline"
    background: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Entered while the consumers run."""
    failure: Callable[[], str | None] = _nothing_failed
    """Names a component that cannot work any more; None while all can."""
    leave: Callable[[], None] = _leave_nothing
    """Records that the process ends by its own decision, whatever message is in work."""
    answer_seconds: float = 0.0
    """Longest time until the model answers; 0 without a model."""
