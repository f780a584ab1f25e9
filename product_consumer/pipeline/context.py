"""Stop event, counters and stages, shared by all streams and threads of one process."""

import threading
from dataclasses import dataclass

from product_consumer.metrics import Metrics
from product_consumer.pipeline.stages import Stages


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """The shared state of one process: made once, passed to all. Its members are thread-safe.

    ``stages`` decides whether the process lives, so a supervisor and its consumers must be built
    from the same context.
    """

    stopping: threading.Event
    """Set when the process is to end; no thread receives messages from then on."""
    metrics: Metrics
    stages: Stages


def new_context(stopping: threading.Event | None = None) -> ProcessContext:
    """Return a context whose stages are timed by its metrics."""
    metrics = Metrics()
    return ProcessContext(stopping or threading.Event(), metrics, Stages(metrics.observe_stage))
