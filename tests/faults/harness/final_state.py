"""The contents of the queue and the stores at the end, read with clients that are not ours."""

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy
from elasticsearch import Elasticsearch
from pymilvus import MilvusClient

from product_consumer.vectors import Embedding

MOST_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A product's row in the ledger; ``price`` in minor units."""

    revision: int
    version: int
    payload_hash: str
    deleted: bool
    name: str
    price: int | None
    has_pending_check: bool = False


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A product in Milvus or a keyword store; only Milvus has embeddings."""

    revision: int
    name: str
    price: float | None
    text: Embedding | None = None
    image: Embedding | None = None


@dataclass(slots=True)
class FinalState:
    """All rows of all stores, and what the queues hold."""

    ledger: dict[str, LedgerRow] = field(default_factory=dict)
    vectors: dict[str, StoredRow] = field(default_factory=dict)
    keywords: dict[str, StoredRow] = field(default_factory=dict)
    prices: list[tuple[str, datetime, int]] = field(default_factory=list)
    reviews: list[tuple[str, datetime, float, int]] = field(default_factory=list)
    dead_letters: list[tuple[str, str]] = field(default_factory=list)
    """(message id of the original, reason)."""
    waiting: int = 0
    """Messages in the queue, visible or not."""


def read_ledger(url: str, state: FinalState) -> None:
    """Fill in the rows of the SQL tables, by SQL written here."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:

        def rows(query: str) -> Sequence[Any]:
            return connection.execute(sqlalchemy.text(query)).all()

        products = rows(
            "SELECT id, revision, version_value, payload_hash, deleted, name, price_minor,"
            " check_after IS NOT NULL FROM products"
        )
        state.ledger = {key: LedgerRow(*values) for key, *values in products}
        prices = rows("SELECT product_id, observed_at, price_minor FROM price_history")
        state.prices = [(key, _utc(at), price) for key, at, price in prices]
        reviews = rows("SELECT product_id, observed_at, rating, reviews_count FROM review_history")
        state.reviews = [(key, _utc(at), rating, count) for key, at, rating, count in reviews]


def read_milvus(client: MilvusClient, collection: str) -> dict[str, StoredRow]:
    rows = client.query(
        collection,
        filter="revision >= 0",
        output_fields=["*"],
        limit=MOST_ROWS,
        consistency_level="Strong",
    )
    return {
        row["id"]: StoredRow(
            row["revision"],
            row["name"],
            row.get("price"),
            np.asarray(row["text_embedding"], np.float32),
            np.asarray(row["image_embedding"], np.float32),
        )
        for row in rows
    }


def read_elasticsearch(client: Elasticsearch, index: str) -> dict[str, StoredRow]:
    client.indices.refresh(index=index)
    hits = client.search(index=index, size=10_000, version=True)["hits"]["hits"]
    return {
        hit["_id"]: StoredRow(
            hit["_version"], hit["_source"]["product_name"], hit["_source"]["price"]
        )
        for hit in hits
    }


def read_sqlite_search(path: Path) -> dict[str, StoredRow]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT id, revision, product_name, price FROM products WHERE NOT deleted"
        ).fetchall()
    return {key: StoredRow(*values) for key, *values in rows}


def _utc(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC)
