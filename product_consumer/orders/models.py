"""The values of the order stream. Frozen, without I/O; money is integer minor units."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TypeAlias

from product_consumer.money import money_text

Quantity: TypeAlias = int | Decimal
"""A number of pieces, or a weight or length with decimals."""


@dataclass(frozen=True, slots=True)
class OrderItem:
    """One line of an order; no two lines have the same product and price."""

    product_id: str
    quantity: Quantity
    """Above 0, with at most 6 decimals; an int where it is whole."""
    unit_minor: int
    """Unit price, in the minor unit of the order's currency; at least 0."""

    @property
    def json_quantity(self) -> int | float:
        """The quantity as JSON has it. Its decimals are few enough for a double to keep them."""
        return self.quantity if isinstance(self.quantity, int) else float(self.quantity)


@dataclass(frozen=True, slots=True)
class Order:
    """A valid order message, cleaned."""

    order_id: str
    user_id: str
    ordered_at: datetime
    """UTC: ``order_timestamp``, else ``timestamp``, else the time the queue took the message."""
    value_minor: int
    """Sum of the items, in minor units of ``currency``, exactly."""
    currency: str
    """ISO 4217 code."""
    items: tuple[OrderItem, ...]
    payload_hash: str
    """SHA-256 of the cleaned content, hex: copies of one order have the same, however written."""
    payment_method: str | None = None
    flags: tuple[str, ...] = ()
    """Names of the changes, for the counters: ``items_merged``, ``id_spaces`` ..."""

    @property
    def day(self) -> date:
        """The UTC day whose totals the order is added to."""
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
    """None where it could not be read."""
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
    """Row counts of the order ledger."""

    orders: int
    users: int
    """Each user once, in however many currencies."""
    rejected: int
