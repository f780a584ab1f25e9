"""Tables of the order ledger, in the same database as the products, for SQLite and PostgreSQL."""

from sqlalchemy import BigInteger, Column, Date, Index, MetaData, Table, Text

from product_consumer.database.column_types import Bytewise, UtcTimestamp

metadata = MetaData()

orders = Table(
    "orders",
    metadata,
    Column("order_id", Bytewise, primary_key=True),
    Column("payload_hash", Text, nullable=False),
    Column("user_id", Bytewise, nullable=False),
    Column("ordered_at", UtcTimestamp, nullable=False),
    Column("value_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("payment_method", Text),
    # JSON: [[product id, quantity, unit price in minor units], ...]. No query is by item, so a row
    # per item would only triple the writes.
    Column("items", Text, nullable=False),
    Column("recorded_at", UtcTimestamp, nullable=False),
    Index("orders_user", "user_id", "ordered_at"),
)

user_totals = Table(
    "user_totals",
    metadata,
    Column("user_id", Bytewise, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("order_count", BigInteger, nullable=False),
    Column("spend_minor", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    # The rankings, in the order in which they are read.
    Index("user_totals_by_spend", "currency", "spend_minor", "user_id"),
    Index("user_totals_by_orders", "currency", "order_count", "user_id"),
)

daily_totals = Table(
    "daily_totals",
    metadata,
    Column("day", Date, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("order_count", BigInteger, nullable=False),
    Column("spend_minor", BigInteger, nullable=False),
)

user_daily_totals = Table(
    "user_daily_totals",
    metadata,
    Column("user_id", Bytewise, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("order_count", BigInteger, nullable=False),
    Column("spend_minor", BigInteger, nullable=False),
    # All that a ranking over some days reads, so that the query never leaves the index.
    Index("user_daily_totals_by_day", "currency", "day", "user_id", "order_count", "spend_minor"),
)

order_totals = Table(
    "order_totals",
    metadata,
    Column("currency", Text, primary_key=True),
    Column("order_count", BigInteger, nullable=False),
    Column("spend_minor", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

rejected_orders = Table(
    "rejected_orders",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("order_id", Text),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("at", UtcTimestamp, nullable=False),
    Index("rejected_orders_at", "at"),
)
