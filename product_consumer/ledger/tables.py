"""Tables of the ledger, for SQLite and PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

SCHEMA_VERSION = 1


class UtcTimestamp(TypeDecorator[datetime]):
    """An aware UTC time: ``timestamptz`` on PostgreSQL, ISO 8601 text of fixed width on SQLite (so
    text order is time order).
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(32))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.isoformat(timespec="microseconds") if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC)


# Hashes and ids are compared byte by byte on both databases; PostgreSQL's default collation is the
# locale's.
_Bytewise = Text().with_variant(Text(collation="C"), "postgresql")

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
    Column("id", _Bytewise, primary_key=True),
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
    Column("last_update", UtcTimestamp, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("version_rank", BigInteger, nullable=False),
    Column("version_value", BigInteger, nullable=False),
    Column("payload_hash", _Bytewise, nullable=False),
    # float16: half the size, and 1 - cosine to the float32 vector stays under 1e-6.
    Column("text_embedding", LargeBinary),
    Column("image_embedding", LargeBinary),
    Column("model_id", Text),
    # Which picture the image vector was made of, and how to ask its server whether it has changed.
    Column("image_sha256", _Bytewise),
    Column("image_etag", Text),
    Column("image_last_modified", Text),
    # Set by every write, cleared only after a read has confirmed the stores: a write that was cut
    # off stays visible.
    Column("check_after", UtcTimestamp),
    Index("products_check_after", "check_after"),
    Index("products_image_sha256", "image_sha256"),
)

price_history = Table(
    "price_history",
    metadata,
    Column("product_id", _Bytewise, nullable=False),
    Column("observed_at", UtcTimestamp, nullable=False),
    Column("price_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    UniqueConstraint("product_id", "observed_at", "price_minor", "currency"),
)

review_history = Table(
    "review_history",
    metadata,
    Column("product_id", _Bytewise, nullable=False),
    Column("observed_at", UtcTimestamp, nullable=False),
    Column("rating", Double, nullable=False),
    Column("reviews_count", BigInteger, nullable=False),
    UniqueConstraint("product_id", "observed_at", "rating", "reviews_count"),
)

# Messages that are being decoded or embedded: see ledger_suspects.py.
suspects = Table(
    "suspects",
    metadata,
    Column("message_id", _Bytewise, primary_key=True),
    Column("is_alone", Boolean, nullable=False),
    Column("deaths_alone", BigInteger, nullable=False),
    Column("noted_at", UtcTimestamp, nullable=False),
)
