"""What all streams and threads of a process share: stop event, counters, stages, outages, holds."""

import threading
from dataclasses import dataclass, field

from product_consumer.metrics import Metrics
from product_consumer.pipeline.hold import Hold
from product_consumer.pipeline.outages import Outages
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
    hold: Hold = field(default_factory=Hold)
    outages: Outages = field(default_factory=Outages)


def new_context(
    stopping: threading.Event | None = None, hold: Hold | None = None
) -> ProcessContext:
    """Return a context whose stages are timed by its metrics, which also tell its outages."""
    metrics, outages = Metrics(), Outages()
    metrics.watch_breakers(outages.states)
    stages = Stages(metrics.observe_stage)
    return ProcessContext(stopping or threading.Event(), metrics, stages, hold or Hold(), outages)
