"""Tries every configured part, as a worker would at its start."""

from collections.abc import Callable, Iterator

from product_consumer.errors import ProductConsumerError
from product_consumer.orders.components import OrderComponents
from product_consumer.products.components import ProductComponents
from product_consumer.settings import Settings
from product_consumer.streams import StreamName

CheckResult = tuple[str, bool, str]
"""Part, whether it works, and one line about it: what was reached, or which setting is wrong."""


def check_parts(settings: Settings, *, skip_model: bool) -> Iterator[CheckResult]:
    """Yield one finding per part, later parts even where earlier ones fail.

    Like a start, it creates tables, collection and index where they are missing, except that stores
    are left alone as long as no model is known to build them for. The parts of a stream whose queue
    is not set are left out, but not those of both.
    """
    has_orders = settings.queue_of(StreamName.ORDERS).url is not None
    if settings.queue_of(StreamName.PRODUCTS).url is not None or not has_orders:
        yield from _check_products(settings, skip_model=skip_model)
    if has_orders:
        yield from _check_orders(settings)


def _check_products(settings: Settings, *, skip_model: bool) -> Iterator[CheckResult]:
    parts = ProductComponents(settings)
    try:
        yield _try("queue", lambda: _queue(parts))
        ledger = _try("ledger", lambda: _ledger(parts))
        yield ledger
        if not ledger[1]:
            return
        if not skip_model:
            yield _try("model", lambda: _model(parts))
        yield from _stores(parts)
    finally:
        parts.close()


def _check_orders(settings: Settings) -> Iterator[CheckResult]:
    parts = OrderComponents(settings)
    try:
        yield _try("order queue", lambda: _queue(parts))
        yield _try("order ledger", lambda: _ledger(parts))
        if settings.redis_url is not None:
            yield _try("redis", lambda: _redis(parts))
    finally:
        parts.close()


def _try(name: str, look: Callable[[], str]) -> CheckResult:
    try:
        return name, True, look()
    except ProductConsumerError as error:
        return name, False, str(error)


def _queue(parts: ProductComponents | OrderComponents) -> str:
    parts.open_queue()
    backlog = parts.queue.backlog()
    return f"{parts.queue.label}: {backlog.visible} waiting, {backlog.in_flight} in flight"


def _ledger(parts: ProductComponents | OrderComponents) -> str:
    parts.open_ledger()
    return parts.ledger.describe()


def _redis(parts: OrderComponents) -> str:
    parts.open_stats()
    return parts.stats.describe() if parts.stats else "not set"


def _model(parts: ProductComponents) -> str:
    parts.load_model()
    embedder = parts.embedder
    return f"{embedder.model_id} on {embedder.device}, {embedder.dimension} numbers per vector"


def _stores(parts: ProductComponents) -> Iterator[CheckResult]:
    if not parts.is_model_known:
        yield "stores", False, "not checked: no model has been loaded on this ledger yet"
        return
    for name, look in parts.store_checks().items():
        yield _try(name, look)
