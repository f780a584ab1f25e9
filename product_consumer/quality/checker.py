"""Checks orders and products beside the stream: the rules for all, the language model for some."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from product_consumer.models import PriceObservation, Product, ReviewObservation
from product_consumer.orders.models import Order, StoredOrder
from product_consumer.orders.statistics import OrderStatistics
from product_consumer.quality.background import Background
from product_consumer.quality.language_model import (
    UNKNOWN,
    Allowance,
    LanguageModel,
    ModelFailed,
)
from product_consumer.quality.models import QualityFlag
from product_consumer.quality.redaction import order_document, product_document
from product_consumer.quality.rules import ProductUse, check_order, check_product
from product_consumer.quality.store import QualityStore

if TYPE_CHECKING:
    # Loads numpy, which a worker of orders alone does without.
    from product_consumer.ledger.ledger import Ledger

log = logging.getLogger(__name__)

MAX_WAITING = 5000
"""Orders and products that wait for the rules; beyond it checks are skipped and counted."""
MAX_WAITING_FOR_MODEL = 100
BATCH_SIZE = 100
RECENT_ORDERS = 20
RECENT_PRICES = 20

_Subject = Literal["order", "product"]


@dataclass(frozen=True, slots=True)
class _Question:
    """One description for the model; the flags of its reply belong to this subject only."""

    subject: _Subject
    subject_id: str
    document: dict[str, Any]


class QualityChecker:
    """Background checks of orders and products, in two threads of its own.

    Any thread may submit. Submitting never blocks, never raises and changes nothing. ``orders`` and
    ``products``: where histories are read; None without such a stream. ``count``: called with a
    number and ``checked``, ``skipped``, ``lost``, ``model_asked``, ``model_skipped:<why>`` or
    ``model_failed:<cause>``.
    """

    def __init__(
        self,
        store: QualityStore,
        *,
        orders: OrderStatistics | None = None,
        products: "Ledger | None" = None,
        model: LanguageModel | None = None,
        allowance: Allowance | None = None,
        count: Callable[[str, int], None] = lambda _name, _number: None,
    ) -> None:
        self._store = store
        self._orders = orders
        self._products = products
        self._model = model
        self._allowance = allowance or Allowance(calls_per_minute=30, sample_ratio=1.0)
        self._count = count
        self._is_set_up = False
        # Two queues: a model that takes seconds to answer must not hold up the rules.
        self._rules: Background[Order | Product] = Background(
            "quality-rules",
            self._check,
            lambda number: count("lost", number),
            capacity=MAX_WAITING,
            batch_size=BATCH_SIZE,
        )
        self._questions: Background[_Question] = Background(
            "quality-model",
            self._ask_all,
            lambda number: count("model_skipped:stopped", number),
            capacity=MAX_WAITING_FOR_MODEL,
            batch_size=1,
        )

    def start(self) -> None:
        """Start checking in the background; call once."""
        self._rules.start()
        self._questions.start()

    def submit(self, order: Order) -> None:
        """Check a counted order, later."""
        self._put(order)

    def check_product(self, product: Product) -> None:
        """Check a stored product, later."""
        self._put(product)

    def stop(self, seconds: float = 5.0) -> None:
        """Finish the queues: so many seconds at most for the rules, and again for the model."""
        self._rules.stop(seconds)
        self._questions.stop(seconds)
        if self._model is not None:
            self._model.close()

    def _put(self, subject: Order | Product) -> None:
        if not self._rules.put(subject):
            self._count("skipped", 1)

    def _check(self, batch: Sequence[Order | Product]) -> None:
        if not self._is_set_up:
            self._store.setup()
            self._is_set_up = True
        orders = [subject for subject in batch if isinstance(subject, Order)]
        products = [subject for subject in batch if isinstance(subject, Product)]
        if orders:
            self._check_orders(orders)
        if products:
            self._check_products(products)
        self._count("checked", len(batch))

    def _check_orders(self, orders: Sequence[Order]) -> None:
        now = datetime.now(UTC)
        ids = {item.product_id for order in orders for item in order.items}
        uses = self._store.product_uses(ids)
        recent = self._recent(order.user_id for order in orders)
        flags: list[QualityFlag] = []
        for order in orders:
            by_rules = check_order(order, recent.get(order.user_id, []), uses, now)
            flags += by_rules
            self._ask_about_order(order, recent.get(order.user_id, []), uses, by_rules)
        self._store.add(flags)
        self._store.observe(orders)

    def _recent(self, user_ids: Iterable[str]) -> dict[str, list[StoredOrder]]:
        if self._orders is None:
            return {}
        return {
            user_id: self._orders.orders_of(user_id, RECENT_ORDERS) for user_id in set(user_ids)
        }

    def _ask_about_order(
        self,
        order: Order,
        recent: Sequence[StoredOrder],
        uses: dict[tuple[str, str], ProductUse],
        by_rules: Sequence[QualityFlag],
    ) -> None:
        if self._wants_model():
            values = [
                other.value_minor
                for other in recent
                if other.currency == order.currency and other.order_id != order.order_id
            ]
            document = order_document(order, values, uses, by_rules)
            self._put_question("order", order.order_id, document)

    def _check_products(self, batch: Sequence[Product]) -> None:
        now = datetime.now(UTC)
        ids = {product.id for product in batch}
        prices: Mapping[str, Sequence[PriceObservation]] = {}
        reviews: Mapping[str, Sequence[ReviewObservation]] = {}
        if self._products is not None:
            prices = self._products.recent_prices(ids, RECENT_PRICES)
            reviews = self._products.recent_reviews(ids, RECENT_PRICES)
        flags: list[QualityFlag] = []
        for product in batch:
            counts = [observation.reviews_count for observation in reviews.get(product.id, ())]
            by_rules = check_product(product, prices.get(product.id, ()), counts, now)
            flags += by_rules
            if not product.deleted and self._wants_model():
                self._put_question("product", product.id, product_document(product, by_rules))
        self._store.add(flags)

    def _wants_model(self) -> bool:
        return self._model is not None and self._allowance.is_sampled()

    def _put_question(self, subject: _Subject, subject_id: str, document: dict[str, Any]) -> None:
        if not self._questions.put(_Question(subject, subject_id, document)):
            self._count("model_skipped:full", 1)

    def _ask_all(self, questions: Sequence[_Question]) -> None:
        for question in questions:
            self._ask(question)

    def _ask(self, question: _Question) -> None:
        if self._model is None:
            return
        refusal = self._allowance.refusal()
        if refusal is not None:
            self._count(f"model_skipped:{refusal}", 1)
            return
        self._count("model_asked", 1)
        try:
            findings = self._model.ask(question.document)
        except ModelFailed as error:
            self._count(f"model_failed:{error.cause}", 1)
            if error.is_outage:
                self._allowance.pause()
                log.warning("Quality checks go on without the language model: %s", error)
                return
            findings = [(UNKNOWN, error.cause)]
        now = datetime.now(UTC)
        self._store.add(
            [
                QualityFlag(
                    question.subject, question.subject_id, code, reason, "language_model", now
                )
                for code, reason in findings
            ]
        )
