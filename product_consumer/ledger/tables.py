"""Tables of the ledger, for SQLite and PostgreSQL."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    select,
    text,
)
from sqlalchemy.schema import CreateColumn

from product_consumer.database.column_types import Bytewise, UtcTimestamp

LEDGER_SCHEMA_VERSION = 1

metadata = MetaData()

ledger_meta = Table(
    "ledger_meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

products = Table(
    "products",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("name", Text, nullable=False),
    Column("store_url", Text),
    Column("price_minor", BigInteger),
    Column("currency", Text),
    Column("rating", Double),
    Column("reviews_count", BigInteger),
    Column("image_url", Text, nullable=False),
    Column("description", Text),
    Column("category", Text),
    Column("brand", Text),
    # Product.flags with spaces between. NULL: none, or a row from before this column.
    Column("flags", Text),
    # Of the message that these eleven columns are from, as text in the order of versions. A deleted
    # product has a newer version than its content. NULL: no content, or that of a row from before
    # this column.
    Column("content_version", Bytewise),
    Column("last_update", UtcTimestamp, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("version_rank", BigInteger, nullable=False),
    Column("version_value", BigInteger, nullable=False),
    Column("payload_hash", Bytewise, nullable=False),
    # float16: half the size of float32, and 1 - cosine between the two stays under 1e-6.
    Column("text_embedding", LargeBinary),
    Column("image_embedding", LargeBinary),
    Column("model_id", Text),
    # The image that image_embedding was made of, and how to ask its server whether it has changed.
    Column("image_sha256", Bytewise),
    Column("image_etag", Text),
    Column("image_last_modified", Text),
    # The pending check: every write sets it, and only a check that found every store right clears
    # it. So a write that was cut off stays visible.
    Column("check_after", UtcTimestamp),
    Index("products_check_after", "check_after"),
    Index("products_image_sha256", "image_sha256"),
)

price_history = Table(
    "price_history",
    metadata,
    Column("product_id", Bytewise, nullable=False),
    Column("observed_at", UtcTimestamp, nullable=False),
    Column("price_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    UniqueConstraint("product_id", "observed_at", "price_minor", "currency"),
)

review_history = Table(
    "review_history",
    metadata,
    Column("product_id", Bytewise, nullable=False),
    Column("observed_at", UtcTimestamp, nullable=False),
    Column("rating", Double, nullable=False),
    Column("reviews_count", BigInteger, nullable=False),
    UniqueConstraint("product_id", "observed_at", "rating", "reviews_count"),
)

# Messages that are being decoded or embedded (in_progress.py).
suspects = Table(
    "suspects",
    metadata,
    Column("message_id", Bytewise, primary_key=True),
    Column("is_alone", Boolean, nullable=False),
    Column("deaths_alone", BigInteger, nullable=False),
    Column("noted_at", UtcTimestamp, nullable=False),
    # That has it in work (process_names.py). NULL: of an earlier program.
    Column("process", Text),
)


def create_tables(connection: Connection) -> None:
    """Create the tables, and the columns that those of an earlier program lack."""
    metadata.create_all(connection)
    for table in (products, suspects):
        present = connection.execute(select(text("*")).select_from(table).limit(0)).keys()
        for column in table.columns:
            if column.name not in present:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
