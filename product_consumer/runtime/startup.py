"""Opens the parts of a stream at the start of a worker, waiting for what is down."""

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from product_consumer.pipeline.backoff import retry_until_available
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from product_consumer.database.connection import Database
    from product_consumer.metrics import Metrics
    from product_consumer.orders.components import OrderParts
    from product_consumer.products.components import Parts

AnyParts = TypeVar("AnyParts", "Parts", "OrderParts")


def open_parts(
    settings: Settings,
    stopping: threading.Event,
    *,
    created_by: str = "worker",
    metrics: "Metrics | None" = None,
) -> "Parts | None":
    """Open queue, ledger, model and stores, waiting for what is down; None when stopped."""
    # Imported here: torch takes seconds, and a wrong setting must be reported before that.
    from product_consumer.products.components import Parts

    parts = Parts(settings, metrics)
    steps = (
        parts.open_queue,
        lambda: parts.open_ledger(created_by),
        parts.load_model,
        parts.open_stores,
    )
    return _opened(parts, steps, stopping)


def open_order_parts(
    settings: Settings, stopping: threading.Event, metrics: "Metrics", database: "Database | None"
) -> "OrderParts | None":
    """Open queue, ledger and Redis, waiting for what is down; None when stopped."""
    # Nothing of this loads torch, Milvus or Elasticsearch: orders alone start at once.
    from product_consumer.orders.components import OrderParts

    parts = OrderParts(settings, metrics)
    steps = (parts.open_queue, lambda: parts.open_ledger(database), parts.open_stats)
    return _opened(parts, steps, stopping)


def _opened(
    parts: AnyParts, steps: Iterable[Callable[[], object]], stopping: threading.Event
) -> AnyParts | None:
    if all(retry_until_available(step, stopping, "Waiting to start") for step in steps):
        return parts
    parts.close()
    return None
