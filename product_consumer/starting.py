"""Opens the parts of a stream at the start of a worker, waiting for what is down."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from product_consumer.backoff import Backoff
from product_consumer.errors import Unavailable
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from product_consumer.ledger_database import Database
    from product_consumer.metrics import Metrics
    from product_consumer.orders.parts import OrderParts
    from product_consumer.parts import Parts

log = logging.getLogger(__name__)


def open_parts(
    settings: Settings,
    stopping: threading.Event,
    *,
    created_by: str = "worker",
    metrics: "Metrics | None" = None,
) -> "Parts | None":
    """Open queue, ledger, model and stores, waiting for what is down; None when stopped."""
    # Imported here: torch takes seconds, and a wrong setting must be reported before that.
    from product_consumer.parts import Parts

    parts = Parts(settings, metrics)
    steps = (
        parts.open_queue,
        lambda: parts.open_ledger(created_by),
        parts.load_model,
        parts.open_stores,
    )
    for step in steps:
        if not _retry_until_available(step, stopping):
            parts.close()
            return None
    return parts


def open_order_parts(
    settings: Settings, stopping: threading.Event, metrics: "Metrics", database: "Database | None"
) -> "OrderParts | None":
    """Open queue, ledger and Redis, waiting for what is down; None when stopped."""
    # Nothing of this loads torch, Milvus or Elasticsearch: orders alone start at once.
    from product_consumer.orders.parts import OrderParts

    parts = OrderParts(settings, metrics)
    steps = (parts.open_queue, lambda: parts.open_ledger(database), parts.open_stats)
    for step in steps:
        if not _retry_until_available(step, stopping):
            parts.close()
            return None
    return parts


def _retry_until_available(step: Callable[[], object], stopping: threading.Event) -> bool:
    backoff = Backoff(1.0, 30.0)
    while not stopping.is_set():
        try:
            step()
        except Unavailable as error:
            log.warning("Waiting to start: %s", error)
            backoff.wait(stopping)
        else:
            return True
    return False
