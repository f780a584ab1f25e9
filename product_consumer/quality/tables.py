"""Tables of the quality checks, in the ledger's database, for SQLite and PostgreSQL."""

from sqlalchemy import BigInteger, Column, Double, Index, MetaData, Table, Text

from product_consumer.database.column_types import Bytewise, UtcTimestamp

metadata = MetaData()

quality_flags = Table(
    "quality_flags",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("subject_id", Bytewise, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", UtcTimestamp, nullable=False),
    Index("quality_flags_at", "at"),
)

# Means are doubles: they only tell the usual value, and no amount is ever derived from them.
product_order_history = Table(
    "product_order_history",
    metadata,
    Column("product_id", Bytewise, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("observations", BigInteger, nullable=False),
    Column("mean_unit_minor", Double, nullable=False),
    Column("mean_quantity", Double, nullable=False),
)
