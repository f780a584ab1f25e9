"""The values of the order stream. Frozen, without I/O; money is integer minor units."""

from dataclasses import dataclass
from datetime import date, datetime

from product_consumer.money import money_text


@dataclass(frozen=True, slots=True)
class OrderItem:
    """One line of an order; lines of the same product at the same price are one."""

    product_id: str
    quantity: int
    """At least 1."""
    unit_minor: int
    """Price of one, in the order's minor unit; at least 0."""


@dataclass(frozen=True, slots=True)
class Order:
    """A valid order message, cleaned. ``value_minor`` is the sum of its items, exactly."""

    order_id: str
    user_id: str
    ordered_at: datetime
    """UTC: ``order_timestamp``, else the time the queue took the message."""
    value_minor: int
    currency: str
    """ISO 4217 code."""
    items: tuple[OrderItem, ...]
    payload_hash: str
    """SHA-256 of what the message says, however it was written; equal for copies of one order."""
    payment_method: str | None = None
    flags: tuple[str, ...] = ()
    """What was cleaned, for the counters: ``items_merged``, ``id_trimmed`` ..."""

    @property
    def day(self) -> date:
        """The UTC day it counts for."""
        return self.ordered_at.date()


@dataclass(frozen=True, slots=True)
class UserStats:
    """Totals of one user in one currency."""

    user_id: str
    currency: str
    order_count: int
    spend_minor: int
    revision: int = 0
    """Grows with every batch that added to this row; 0 where a range of days was summed."""

    @property
    def total_spend(self) -> str:
        """``199.98``: a decimal with the currency's own number of decimals."""
        return money_text(self.spend_minor, self.currency)


@dataclass(frozen=True, slots=True)
class GlobalStats:
    """Totals of all users in one currency."""

    currency: str
    total_orders: int
    revenue_minor: int
    revision: int = 0

    @property
    def total_revenue(self) -> str:
        return money_text(self.revenue_minor, self.currency)


@dataclass(frozen=True, slots=True)
class DayStats:
    """Totals of one UTC day in one currency."""

    day: date
    currency: str
    order_count: int
    spend_minor: int

    @property
    def total_spend(self) -> str:
        return money_text(self.spend_minor, self.currency)


@dataclass(frozen=True, slots=True)
class RejectedOrder:
    """A message of the order queue that went to the dead-letter queue."""

    message_id: str
    order_id: str | None
    """As far as it could be read."""
    reason: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """One row of ``orders``."""

    order_id: str
    user_id: str
    ordered_at: datetime
    value_minor: int
    currency: str
    payment_method: str | None
    items: tuple[OrderItem, ...]
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """How much the order ledger holds; ``users`` counts each user once, whatever the currency."""

    orders: int
    users: int
    rejected: int
