"""The demo's second stream: some orders, a few of them bad, and the statistics they come to."""

from collections.abc import Iterator
from datetime import UTC, datetime

from product_consumer.metrics import Metrics
from product_consumer.orders.generator import Producer
from product_consumer.orders.ledger import OrderLedger
from product_consumer.text import printable

ORDER_COUNT = 40
_SEED = 2026
_USERS = 12
_BAD_SHARE = 0.08


def order_bodies() -> list[str]:
    """The messages: the same at every run of a day, so a second run counts nothing twice."""
    producer = Producer(
        seed=_SEED, last_day=datetime.now(UTC).date(), users=_USERS, bad_share=_BAD_SHARE
    )
    return list(producer.messages(ORDER_COUNT))


def order_summary(metrics: Metrics, ledger: OrderLedger) -> Iterator[str]:
    """What came of the orders, the totals, and the best customers."""
    outcomes = metrics.outcomes()
    stored = sum(count for (outcome, _), count in outcomes.items() if outcome == "stored")
    rejected = sum(count for (outcome, _), count in outcomes.items() if outcome == "rejected")
    yield f"\nOrders: received {metrics.received()}, accepted {stored}, rejected {rejected}"
    for total in ledger.global_stats():
        yield f"  {total.total_orders} orders, {total.total_revenue} {total.currency} in all"
        for user in ledger.top("spend", 3, total.currency):
            spend = f"{user.total_spend} {user.currency}"
            yield f"  {printable(user.user_id)}: {user.order_count} orders, {spend}"
