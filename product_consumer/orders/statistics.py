"""Queries on the order ledger: totals by user, day and currency, rankings, rejections.

Money of different currencies is never added up, so every result is per currency. Days are UTC and
both ends of a range are included; ``None`` leaves that end open.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, Table, distinct, func, select

from product_consumer.database.connection import Database
from product_consumer.orders.models import (
    Counts,
    DayStats,
    GlobalStats,
    OrderItem,
    RejectedOrder,
    StoredOrder,
    UserStats,
)
from product_consumer.orders.tables import (
    daily_totals,
    order_totals,
    orders,
    rejected_orders,
    user_daily_totals,
    user_totals,
)

MAX_ROWS = 10_000
"""Most rows of one result, whatever was asked for."""

_Ranking = Literal["spend", "orders"]


class OrderStatistics:
    """The reading half of the order ledger. Thread-safe.

    Every method may raise ``LedgerUnavailable`` or ``ConfigurationError``.
    """

    database: Database

    def ping(self) -> None:
        """Raise while totals cannot be read; reads one row at most."""
        with self._reading() as connection:
            connection.execute(select(order_totals.c.currency).limit(1)).all()

    def user_stats(
        self, user_id: str, day_from: date | None = None, day_to: date | None = None
    ) -> list[UserStats]:
        """Return a user's totals, one entry per currency in the order of its code.

        Empty for an unknown user, and for a user without orders on these days.
        """
        if day_from is None and day_to is None:
            return self.users_stats([user_id]).get(user_id, [])
        days = user_daily_totals.c
        query = (
            select(days.currency, *_sums(user_daily_totals))
            .where(days.user_id == user_id, *_within(user_daily_totals, day_from, day_to))
            .group_by(days.currency)
            .order_by(days.currency)
        )
        with self._reading() as connection:
            return [
                UserStats(user_id, currency, int(count), int(spend))
                for currency, count, spend in connection.execute(query)
            ]

    def users_stats(self, user_ids: Iterable[str]) -> dict[str, list[UserStats]]:
        """Return the totals of several users in one query; users without orders are left out."""
        columns = user_totals.c
        query = (
            select(user_totals)
            .where(columns.user_id.in_(set(user_ids)))
            .order_by(columns.user_id, columns.currency)
        )
        totals: dict[str, list[UserStats]] = {}
        with self._reading() as connection:
            for row in connection.execute(query):
                totals.setdefault(row.user_id, []).append(_user_stats(row))
        return totals

    def user_pages(self, page_size: int = 1000) -> Iterator[dict[str, list[UserStats]]]:
        """Yield the totals of all users, in pages, in the order of their ids."""
        last = ""
        while True:
            columns = user_totals.c
            query = (
                select(columns.user_id)
                .where(columns.user_id > last)
                .distinct()
                .order_by(columns.user_id)
                .limit(page_size)
            )
            with self._reading() as connection:
                page = list(connection.execute(query).scalars())
            if not page:
                return
            yield self.users_stats(page)
            last = page[-1]

    def global_stats(
        self, day_from: date | None = None, day_to: date | None = None
    ) -> list[GlobalStats]:
        """Return the totals of all users, one entry per currency in the order of its code."""
        if day_from is None and day_to is None:
            rows = select(order_totals).order_by(order_totals.c.currency)
            with self._reading() as connection:
                return [GlobalStats(*row) for row in connection.execute(rows)]
        query = (
            select(daily_totals.c.currency, *_sums(daily_totals))
            .where(*_within(daily_totals, day_from, day_to))
            .group_by(daily_totals.c.currency)
            .order_by(daily_totals.c.currency)
        )
        with self._reading() as connection:
            return [
                GlobalStats(currency, int(count), int(spend))
                for currency, count, spend in connection.execute(query)
            ]

    def top(
        self,
        by: _Ranking,
        n: int,
        currency: str,
        day_from: date | None = None,
        day_to: date | None = None,
    ) -> list[UserStats]:
        """Return the ``n`` users with the greatest spend or most orders in one currency.

        Greatest first; of equal users, the lower id (compared byte by byte) first.
        """
        if n < 1:
            return []
        is_all_time = day_from is None and day_to is None
        query = (
            _ranking(by, currency)
            if is_all_time
            else _ranking_of_days(by, currency, day_from, day_to)
        )
        with self._reading() as connection:
            rows = connection.execute(query.limit(min(n, MAX_ROWS))).all()
        return [
            UserStats(user_id, currency, int(count), int(spend)) for user_id, count, spend in rows
        ]

    def daily(
        self,
        day_from: date | None = None,
        day_to: date | None = None,
        currency: str | None = None,
        user_id: str | None = None,
    ) -> list[DayStats]:
        """Return the totals of each day with orders, oldest first.

        ``user_id``: None for all users. ``currency``: None for all, with one entry per day and
        currency.
        """
        table = daily_totals if user_id is None else user_daily_totals
        query = (
            select(table.c.day, table.c.currency, table.c.order_count, table.c.spend_minor)
            .where(*_within(table, day_from, day_to))
            .order_by(table.c.day, table.c.currency)
            .limit(MAX_ROWS)
        )
        if currency is not None:
            query = query.where(table.c.currency == currency)
        if user_id is not None:
            query = query.where(table.c.user_id == user_id)
        with self._reading() as connection:
            return [DayStats(*row) for row in connection.execute(query)]

    def rejected(self, limit: int = 100) -> list[RejectedOrder]:
        """Return rejected messages, the latest first."""
        columns = rejected_orders.c
        query = (
            select(columns.message_id, columns.order_id, columns.reason, columns.detail, columns.at)
            .order_by(columns.at.desc(), columns.message_id)
            .limit(max(0, min(limit, MAX_ROWS)))
        )
        with self._reading() as connection:
            return [RejectedOrder(*row) for row in connection.execute(query)]

    def order(self, order_id: str) -> StoredOrder | None:
        """Return one order; None for an unknown id."""
        with self._reading() as connection:
            row = connection.execute(select(orders).where(orders.c.order_id == order_id)).first()
        return None if row is None else _stored_order(row)

    def orders_of(self, user_id: str, limit: int = 100) -> list[StoredOrder]:
        """Return a user's orders, the latest first."""
        query = (
            select(orders)
            .where(orders.c.user_id == user_id)
            .order_by(orders.c.ordered_at.desc(), orders.c.order_id)
            .limit(max(0, min(limit, MAX_ROWS)))
        )
        with self._reading() as connection:
            return [_stored_order(row) for row in connection.execute(query)]

    def counts(self) -> Counts:
        """Count orders, users and rejected messages."""
        total = select(func.coalesce(func.sum(order_totals.c.order_count), 0))
        users = select(func.count(distinct(user_totals.c.user_id)))
        rejected = select(func.count()).select_from(rejected_orders)
        with self._reading() as connection:
            queries = (total, users, rejected)
            return Counts(*(int(connection.execute(query).scalar_one()) for query in queries))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self.database.reading() as connection:
            yield connection


def _sums(table: Table) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return func.sum(table.c.order_count), func.sum(table.c.spend_minor)


def _within(table: Table, day_from: date | None, day_to: date | None) -> list[ColumnElement[bool]]:
    bounds = []
    if day_from is not None:
        bounds.append(table.c.day >= day_from)
    if day_to is not None:
        bounds.append(table.c.day <= day_to)
    return bounds


def _ranking(by: _Ranking, currency: str) -> Select[Any]:
    columns = user_totals.c
    measure = columns.spend_minor if by == "spend" else columns.order_count
    return (
        select(columns.user_id, columns.order_count, columns.spend_minor)
        .where(columns.currency == currency)
        .order_by(measure.desc(), columns.user_id)
    )


def _ranking_of_days(
    by: _Ranking, currency: str, day_from: date | None, day_to: date | None
) -> Select[Any]:
    columns = user_daily_totals.c
    count, spend = _sums(user_daily_totals)
    return (
        select(columns.user_id, count, spend)
        .where(columns.currency == currency, *_within(user_daily_totals, day_from, day_to))
        .group_by(columns.user_id)
        .order_by((spend if by == "spend" else count).desc(), columns.user_id)
    )


def _user_stats(row: Any) -> UserStats:
    return UserStats(row.user_id, row.currency, row.order_count, row.spend_minor, row.revision)


def _stored_order(row: Any) -> StoredOrder:
    return StoredOrder(
        order_id=row.order_id,
        user_id=row.user_id,
        ordered_at=row.ordered_at,
        value_minor=row.value_minor,
        currency=row.currency,
        payment_method=row.payment_method,
        # Decimal, so that 0.1 + 0.2 kg is 0.3 kg.
        items=tuple(OrderItem(*item) for item in json.loads(row.items, parse_float=Decimal)),
        recorded_at=row.recorded_at,
    )
