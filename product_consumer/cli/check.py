"""Opens every configured component as a worker does at its start, and reports each."""

from collections.abc import Callable, Iterator

from product_consumer.errors import ProductConsumerError
from product_consumer.orders.components import OrderComponents
from product_consumer.products.components import ProductComponents
from product_consumer.queue_addresses import StreamName
from product_consumer.settings import Settings

CheckResult = tuple[str, bool, str]
"""Component, whether it works, and a line of text: what was reached, or which setting is wrong."""


def check_components(settings: Settings, *, skip_model: bool) -> Iterator[CheckResult]:
    """Yield one result per component, also for those after a failure.

    Like a start, it creates missing tables, collection and index. Stores are not checked while no
    model is known: the model decides how they are built. A stream without a queue is left out; with
    no queue at all, the product stream is checked.
    """
    has_orders = settings.queue_of(StreamName.ORDERS).url is not None
    if settings.queue_of(StreamName.PRODUCTS).url is not None or not has_orders:
        yield from _check_products(settings, skip_model=skip_model)
    if has_orders:
        yield from _check_orders(settings)


def _check_products(settings: Settings, *, skip_model: bool) -> Iterator[CheckResult]:
    components = ProductComponents(settings)
    try:
        yield _try("queue", lambda: _queue(components))
        ledger = _try("ledger", lambda: _ledger(components))
        yield ledger
        if not ledger[1]:
            return
        if not skip_model:
            yield _try("model", lambda: _model(components))
        yield from _stores(components)
    finally:
        components.close()


def _check_orders(settings: Settings) -> Iterator[CheckResult]:
    components = OrderComponents(settings)
    try:
        yield _try("order queue", lambda: _queue(components))
        yield _try("order ledger", lambda: _ledger(components))
        if settings.redis_url is not None:
            yield _try("redis", lambda: _redis(components))
    finally:
        components.close()


def _try(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return name, True, check()
    except ProductConsumerError as error:
        return name, False, str(error)


def _queue(components: ProductComponents | OrderComponents) -> str:
    components.open_queue()
    backlog = components.queue.backlog()
    counts = f"{backlog.visible} waiting, {backlog.in_flight} in flight"
    return f"{components.queue.label}: {counts}; {components.queue.describe()}"


def _ledger(components: ProductComponents | OrderComponents) -> str:
    components.open_ledger()
    return components.ledger.describe()


def _redis(components: OrderComponents) -> str:
    components.open_stats()
    return components.stats.describe() if components.stats else "not set"


def _model(components: ProductComponents) -> str:
    components.load_model()
    embedder = components.embedder
    return f"{embedder.model_id} on {embedder.device}, {embedder.dimension} numbers per embedding"


def _stores(components: ProductComponents) -> Iterator[CheckResult]:
    if not components.is_model_known:
        yield "stores", False, "not checked: no model has been loaded on this ledger yet"
        return
    for name, check in components.store_checks().items():
        yield _try(name, check)
