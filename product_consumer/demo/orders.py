"""The demo's orders, a few of them bad."""

from datetime import UTC, datetime

from product_consumer.orders.generator import Producer

ORDER_COUNT = 40
_SEED = 2026
_USERS = 12
_BAD_SHARE = 0.08


def order_bodies() -> list[str]:
    """Return the messages; all runs of a day have the same, so a second run counts none twice."""
    producer = Producer(
        seed=_SEED, last_day=datetime.now(UTC).date(), users=_USERS, bad_share=_BAD_SHARE
    )
    return list(producer.messages(ORDER_COUNT))
