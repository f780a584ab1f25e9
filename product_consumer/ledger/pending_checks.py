"""The ledger's marks: which products were written and have not yet been seen in the stores since.

A mark (``products.check_after``) is set by every write, before any store is touched, and cleared
only by a check that found every store right. The check comes a repair horizon after the write; by
then whatever was on its way, also from a process that has died, has landed.

Marks are compared with the clock of the process, never the database's: on SQLite they are the same
clock, and the horizon is long enough (minutes, against a store call of seconds) for the difference
between hosts that keep time by NTP.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, update

from product_consumer.database.connection import Database
from product_consumer.ledger.tables import products


@dataclass(frozen=True, slots=True)
class DueCheck:
    """One product that is due for a check: what its stores should show, and the mark it has now."""

    product_id: str
    revision: int
    deleted: bool
    check_after: datetime


class PendingChecks:
    """Reads and moves the marks in ``products``. Thread-safe; raises as ``Database`` does."""

    def __init__(self, database: Database, *, repair_horizon_seconds: float) -> None:
        self._database = database
        self._repair_horizon = timedelta(seconds=repair_horizon_seconds)

    def count(self) -> int:
        """Return how many products are marked, due or not."""
        query = (
            select(func.count()).select_from(products).where(products.c.check_after.is_not(None))
        )
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def claim(self, now: datetime, limit: int) -> list[DueCheck]:
        """Take up to ``limit`` products whose mark is before ``now``, the longest due first.

        Their marks are pushed a horizon beyond ``now`` before this returns, so that what the caller
        goes on to write is itself checked later, and no other process takes the same products.
        """
        columns = (products.c.id, products.c.revision, products.c.deleted)
        due = (
            select(*columns)
            .where(products.c.check_after < now)
            .order_by(products.c.check_after)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        check_after = now + self._repair_horizon
        with self._writing() as connection:
            found = connection.execute(due).all()
            _set(connection, [row.id for row in found], check_after)
        return [DueCheck(row.id, row.revision, row.deleted, check_after) for row in found]

    def clear(self, checked: Sequence[DueCheck]) -> None:
        """Remove marks, except where the product has been marked or changed since the claim.

        A row that a writer holds at this moment is left marked: the writer marks it anew.
        """
        columns = (products.c.id, products.c.revision, products.c.check_after)
        wanted = {(mark.product_id, mark.revision, mark.check_after) for mark in checked}
        query = select(*columns).where(products.c.id.in_({mark.product_id for mark in checked}))
        with self._writing() as connection:
            found = connection.execute(query.with_for_update(skip_locked=True))
            _set(connection, [row.id for row in found if tuple(row) in wanted], None)

    def add(self, product_ids: Collection[str], now: datetime) -> None:
        """Mark products that are about to be written by other means than a message."""
        # In the order in which writers of batches lock their rows: two that wait would deadlock.
        query = select(products.c.id).where(products.c.id.in_(set(product_ids)))
        with self._writing() as connection:
            found = connection.execute(query.order_by(products.c.id).with_for_update())
            _set(connection, list(found.scalars()), now + self._repair_horizon)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._database.writing() as connection:
            if self._database.is_sqlite:
                # SQLite has no row locks: the transaction takes its turn before it reads.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection


def _set(
    connection: Connection, product_ids: Collection[str], check_after: datetime | None
) -> None:
    if product_ids:
        connection.execute(
            update(products).where(products.c.id.in_(product_ids)).values(check_after=check_after)
        )
