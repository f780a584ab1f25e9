"""The contents of the order tables and Redis at the end, read with clients that are not ours."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
import sqlalchemy

GLOBAL_KEY = "global:stats"

Row = tuple[int, int]
"""Count and minor units."""


@dataclass(slots=True)
class OrderState:
    """All totals, in the ledger and in Redis, and what the queues hold."""

    stored: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    """By order id: user id, minor units, currency."""
    users: dict[tuple[str, str], Row] = field(default_factory=dict)
    days: dict[tuple[str, str], Row] = field(default_factory=dict)
    users_days: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    everyone: dict[str, Row] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    """The ledger's revision of each Redis key: the key must have it."""
    listed: dict[str, str] = field(default_factory=dict)
    """Reason by message id, as the service lists rejected orders."""
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Every hash in Redis, by key."""
    dead_letters: list[tuple[str, str]] = field(default_factory=list)
    """(message id of the original, reason)."""
    waiting: int = 0


def read_order_tables(url: str, state: OrderState) -> None:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:

        def rows(query: str) -> Sequence[Any]:
            return connection.execute(sqlalchemy.text(query)).all()

        stored = rows("SELECT order_id, user_id, value_minor, currency FROM orders")
        state.stored = {row[0]: (row[1], row[2], row[3]) for row in stored}
        users = rows(
            "SELECT user_id, currency, order_count, spend_minor, revision FROM user_totals"
        )
        state.users = {(row[0], row[1]): (row[2], row[3]) for row in users}
        days = rows("SELECT day, currency, order_count, spend_minor FROM daily_totals")
        state.days = {(str(row[0]), row[1]): (row[2], row[3]) for row in days}
        users_days = rows(
            "SELECT user_id, day, currency, order_count, spend_minor FROM user_daily_totals"
        )
        state.users_days = {(row[0], str(row[1]), row[2]): (row[3], row[4]) for row in users_days}
        everyone = rows("SELECT currency, order_count, spend_minor, revision FROM order_totals")
        state.everyone = {row[0]: (row[1], row[2]) for row in everyone}
        for user_id, _, _, _, revision in users:
            key = f"user:{user_id}"
            state.revisions[key] = state.revisions.get(key, 0) + revision
        if everyone:
            state.revisions[GLOBAL_KEY] = sum(row[3] for row in everyone)
        state.listed = dict(map(tuple, rows("SELECT message_id, reason FROM rejected_orders")))


def read_redis(client: "redis.Redis") -> dict[str, dict[str, str]]:
    """Every hash of totals, by key."""
    keys = [*client.scan_iter(match="user:*", count=1000), GLOBAL_KEY]
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.hgetall(key)
    hashes = zip(keys, pipeline.execute(), strict=True)
    return {str(key): fields for key, fields in hashes if fields}


def revisions_in_redis(client: "redis.Redis") -> dict[str, int]:
    return {key: int(fields.get("revision", 0)) for key, fields in read_redis(client).items()}
