"""What every stream, thread and dependency of one process shares."""

import threading
from dataclasses import dataclass

from product_consumer.metrics import Metrics
from product_consumer.pipeline.stages import Stages


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """One stop event, one set of counters, one watch over threads: made once, passed to all.

    ``stages`` decides whether the process lives, so no stream may have another: a supervisor and
    its consumers are built from the same context.
    """

    stopping: threading.Event
    """Set once the process shall end: nothing new is received."""
    metrics: Metrics
    stages: Stages


def new_context(stopping: threading.Event | None = None) -> ProcessContext:
    """Return a context whose stages are timed by its metrics."""
    metrics = Metrics()
    return ProcessContext(stopping or threading.Event(), metrics, Stages(metrics.observe_stage))
