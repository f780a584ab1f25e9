"""Settings -> the quality checks of a worker."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from product_consumer.database.connection import Database
from product_consumer.orders.statistics import OrderStatistics
from product_consumer.quality.checker import QualityChecker
from product_consumer.quality.language_model import Allowance, LanguageModel
from product_consumer.quality.store import QualityStore
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from product_consumer.ledger.ledger import Ledger


def open_quality_checker(
    settings: Settings,
    database: Database,
    *,
    orders: OrderStatistics | None = None,
    products: "Ledger | None" = None,
    count: Callable[[str, int], None] = lambda _name, _number: None,
) -> QualityChecker:
    """Return a running checker: call its ``stop``. It creates its tables when it first needs them.

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
