"""Rules: compare an order or a product with fixed limits and its own history. Pure functions.

A reason never quotes the message. It names positions, amounts and counts only, so that no text of a
sender reaches a reader through a flag.

Orders: ``total_mismatch``, ``total_zero``, ``value_outlier``, ``price_outlier``,
``quantity_outlier``, ``duplicate_cart``, ``address_missing``. Products: ``price_jump``,
``price_zero``, ``currency_changed``, ``category_missing``, ``reviews_dropped``. Both:
``time_future``, ``time_ancient``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from product_consumer.models import PriceObservation, Product
from product_consumer.money import money_text
from product_consumer.orders.models import Order, OrderItem, Quantity, StoredOrder
from product_consumer.quality.models import QualityFlag

MIN_HISTORY = 5
"""Fewer observations than this tell nothing about the usual value."""
ORDER_FACTOR = 10
"""An order worth more than this many times the median of its user's recent orders is odd."""
PRICE_FACTOR = 5
"""A price this many times above or below the usual one is odd."""
QUANTITY_FACTOR, MIN_ODD_QUANTITY = 10, 10
DUPLICATE_WINDOW = timedelta(minutes=10)
"""The same cart of the same user within this time is likely one order sent under two ids."""
FUTURE_TOLERANCE = timedelta(minutes=10)
MAX_AGE = timedelta(days=5 * 365)


@dataclass(frozen=True, slots=True)
class ProductUse:
    """The usual price and quantity of a product in orders, in one currency."""

    observations: int
    """Order lines so far."""
    mean_unit_minor: float
    """Unit price, in minor units."""
    mean_quantity: float


Finding = tuple[str, str]
"""Code and reason."""


def check_order(
    order: Order,
    recent: Sequence[StoredOrder],
    uses: Mapping[tuple[str, str], ProductUse],
    now: datetime,
) -> list[QualityFlag]:
    """Return an order's flags.

    ``recent``: the latest orders of its user, itself perhaps among them. ``uses``: the histories of
    its products without this order, by (product id, currency). ``now``: aware.
    """
    others = [other for other in recent if other.order_id != order.order_id]
    findings = [
        *_total(order),
        *_value_outlier(order, others),
        *_duplicate(order, others),
        *_line_outliers(order, uses),
        *_times(order.ordered_at, now),
    ]
    if "address_missing" in order.flags:
        findings.append(("address_missing", "no shipping address"))
    return [
        QualityFlag("order", order.order_id, code, reason, "rule", now)
        for code, reason in dict(findings).items()
    ]


def check_product(
    product: Product,
    prices: Sequence[PriceObservation],
    reviews_counts: Sequence[int],
    now: datetime,
) -> list[QualityFlag]:
    """Return a product's flags; a tombstone has none.

    ``prices`` and ``reviews_counts``: its histories, newest first, perhaps with the observation of
    this message.
    """
    if product.deleted:
        return []
    findings = [
        *_price(product, prices),
        *_reviews(product, reviews_counts),
        *_times(product.observed_at, now),
    ]
    if not (product.category or "").strip():
        findings.append(("category_missing", "no category"))
    return [
        QualityFlag("product", product.id, code, reason, "rule", now)
        for code, reason in dict(findings).items()
    ]


def _total(order: Order) -> list[Finding]:
    total = sum(item.quantity * item.unit_minor for item in order.items)
    if total != order.value_minor:
        stated = money_text(order.value_minor, order.currency)
        summed = money_text(round(total), order.currency)
        return [("total_mismatch", f"value {stated}, items {summed} {order.currency}")]
    if total == 0:
        return [("total_zero", "everything is free")]
    return []


def _value_outlier(order: Order, others: Sequence[StoredOrder]) -> list[Finding]:
    currency = order.currency
    values = [other.value_minor for other in others if other.currency == currency]
    if len(values) < MIN_HISTORY:
        return []
    usual_minor = median(values)
    if order.value_minor <= ORDER_FACTOR * max(usual_minor, 1):
        return []
    value, usual = money_text(order.value_minor, currency), money_text(int(usual_minor), currency)
    return [("value_outlier", f"{value} {currency}; the user's last {len(values)}: {usual}")]


def _duplicate(order: Order, others: Sequence[StoredOrder]) -> list[Finding]:
    cart = _cart(order.items)
    for other in others:
        is_near = abs(other.ordered_at - order.ordered_at) <= DUPLICATE_WINDOW
        if is_near and other.currency == order.currency and _cart(other.items) == cart:
            minutes = DUPLICATE_WINDOW.seconds // 60
            return [("duplicate_cart", f"the same cart within {minutes} minutes, under another id")]
    return []


def _cart(items: Sequence[OrderItem]) -> list[tuple[str, Quantity, int]]:
    return sorted((item.product_id, item.quantity, item.unit_minor) for item in items)


def _line_outliers(order: Order, uses: Mapping[tuple[str, str], ProductUse]) -> list[Finding]:
    findings: list[Finding] = []
    for position, item in enumerate(order.items, 1):
        use = uses.get((item.product_id, order.currency))
        if use is None or use.observations < MIN_HISTORY:
            continue
        if _is_far(item.unit_minor, use.mean_unit_minor):
            price = money_text(item.unit_minor, order.currency)
            usual = money_text(round(use.mean_unit_minor), order.currency)
            findings.append(
                ("price_outlier", f"item {position}: {price} {order.currency}, usually {usual}")
            )
        limit = max(MIN_ODD_QUANTITY, QUANTITY_FACTOR * use.mean_quantity)
        if item.quantity > limit:
            usual = f"{use.mean_quantity:.1f}"
            findings.append(
                ("quantity_outlier", f"item {position}: {item.quantity}, usually {usual}")
            )
    return findings


def _price(product: Product, prices: Sequence[PriceObservation]) -> list[Finding]:
    if product.price_minor is None or product.currency is None:
        return []
    if product.price_minor == 0:
        return [("price_zero", "the price is zero")]
    currency = product.currency
    earlier = [price for price in prices if price.observed_at < product.observed_at]
    if earlier and earlier[0].currency != currency:
        return [("currency_changed", f"{earlier[0].currency} before, {currency} now")]
    values = [price.price_minor for price in earlier if price.currency == currency]
    if not values or not _is_far(product.price_minor, median(values)):
        return []
    usual = money_text(int(median(values)), currency)
    price_now = money_text(product.price_minor, currency)
    return [("price_jump", f"{price_now} {currency}, usually {usual}")]


def _reviews(product: Product, counts: Sequence[int]) -> list[Finding]:
    if product.reviews_count is None or len(counts) == 0:
        return []
    most = max(counts)
    if most >= MIN_ODD_QUANTITY and product.reviews_count < most / 2:
        return [("reviews_dropped", f"{product.reviews_count} reviews, there were {most}")]
    return []


def _is_far(value: float, usual: float) -> bool:
    # A tenth of a minor unit stands for zero: any price is infinitely many times a price of zero.
    ratio = max(value, 0.1) / max(usual, 0.1)
    return ratio > PRICE_FACTOR or ratio < 1 / PRICE_FACTOR


def _times(at: datetime, now: datetime) -> list[Finding]:
    if at > now + FUTURE_TOLERANCE:
        return [("time_future", f"dated {at:%Y-%m-%d}, seen {now:%Y-%m-%d}")]
    if at < now - MAX_AGE:
        return [("time_ancient", f"dated {at:%Y-%m-%d}, seen {now:%Y-%m-%d}")]
    return []
