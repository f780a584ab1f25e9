"""Settings -> the quality checks of a worker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from product_consumer.database.connection import Database
from product_consumer.orders.statistics import OrderStatistics
from product_consumer.quality.checker import QualityChecker
from product_consumer.quality.language_model import Allowance, LanguageModel
from product_consumer.quality.store import QualityStore
from product_consumer.settings import Settings

if TYPE_CHECKING:
    # A worker for orders alone does without them.
    from product_consumer.ledger.ledger import Ledger
    from product_consumer.metrics import Metrics
    from product_consumer.models import Product
    from product_consumer.orders.ledger import OrderLedger
    from product_consumer.orders.models import Order


@contextmanager
def open_product_checks(
    settings: Settings, ledger: "Ledger", metrics: "Metrics"
) -> "Iterator[Callable[[Product], None]]":
    """Yield a function to call with every stored product; it returns at once."""
    checker = open_quality_checker(
        settings, ledger.database, products=ledger, count=metrics.count_quality
    )
    try:
        yield checker.check_product
    finally:
        checker.stop()


@contextmanager
def open_order_checks(
    settings: Settings, ledger: "OrderLedger", metrics: "Metrics"
) -> "Iterator[Callable[[Order], None]]":
    """Yield a function to call with every counted order; it returns at once."""
    checker = open_quality_checker(
        settings, ledger.database, orders=ledger, count=metrics.count_quality
    )
    try:
        yield checker.submit
    finally:
        checker.stop()


def open_quality_checker(
    settings: Settings,
    database: Database,
    *,
    orders: OrderStatistics | None = None,
    products: "Ledger | None" = None,
    count: Callable[[str, int], None] = lambda _name, _number: None,
) -> QualityChecker:
    """Return a running checker, to be stopped. It creates its tables when it first needs them.

    Without ``QUALITY_LLM_URL`` only the rules run.
    """
    allowance = Allowance(
        calls_per_minute=settings.quality_llm_calls_per_minute,
        sample_ratio=settings.quality_llm_sample_ratio,
    )
    checker = QualityChecker(
        QualityStore(database),
        orders=orders,
        products=products,
        model=_open_model(settings),
        allowance=allowance,
        count=count,
    )
    checker.start()
    return checker


def _open_model(settings: Settings) -> LanguageModel | None:
    if settings.quality_llm_url is None or settings.quality_llm_model is None:
        return None
    key = settings.quality_llm_api_key
    return LanguageModel(
        settings.quality_llm_url,
        settings.quality_llm_model,
        api_key=None if key is None else key.get_secret_value(),
        timeout_seconds=settings.quality_llm_timeout_seconds,
    )
