"""The pending checks of the ledger: products that were written and not read back since.

Every write sets a pending check (``products.check_after``) before it touches any store. Only a
check that found every store right clears it. The check comes a repair horizon after the write. By
then every write that was on its way has landed, even one of a process that has died.

``check_after`` is compared with the clock of the process, never the database's. On SQLite both are
the same clock. Hosts that keep time by NTP differ by less than the horizon: it is minutes, and a
store call takes seconds.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, update

from product_consumer.database.connection import Database
from product_consumer.ledger.tables import products


@dataclass(frozen=True, slots=True)
class DueCheck:
    """One product that is due for a check, as its stores should have it."""

    product_id: str
    revision: int
    deleted: bool
    check_after: datetime
    """The pending check that the claim has set."""


class PendingChecks:
    """The pending checks in ``products``. Thread-safe; raises as ``Database`` does."""

    def __init__(self, database: Database, *, repair_horizon_seconds: float) -> None:
        self._database = database
        self._repair_horizon = timedelta(seconds=repair_horizon_seconds)

    def count(self) -> int:
        """Return how many products have a pending check, due or not."""
        query = (
            select(func.count()).select_from(products).where(products.c.check_after.is_not(None))
        )
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def claim(self, now: datetime, limit: int) -> list[DueCheck]:
        """Take up to ``limit`` products whose check is due at ``now``, the longest due first.

        Their checks are moved to a horizon after ``now`` before this returns. So a repair by the
        caller is itself checked later, and no other process takes the same products.
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
        with self._database.writing() as connection:
            rows = connection.execute(due).all()
            _set(connection, [row.id for row in rows], check_after)
        return [DueCheck(row.id, row.revision, row.deleted, check_after) for row in rows]

    def clear(self, checked: Sequence[DueCheck]) -> None:
        """Remove pending checks, except of products that were written since the claim.

        A row that a writer has locked now is left out: the writer sets its pending check again.
        """
        columns = (products.c.id, products.c.revision, products.c.check_after)
        claimed = {(check.product_id, check.revision, check.check_after) for check in checked}
        query = select(*columns).where(products.c.id.in_({check.product_id for check in checked}))
        with self._database.writing() as connection:
            rows = connection.execute(query.with_for_update(skip_locked=True))
            _set(connection, [row.id for row in rows if tuple(row) in claimed], None)

    def add(self, product_ids: Collection[str], now: datetime) -> None:
        """Set a pending check for products that will be written without a message."""
        # Lock rows in the order of the writers of batches; another order could deadlock with them.
        query = select(products.c.id).where(products.c.id.in_(set(product_ids)))
        with self._database.writing() as connection:
            ids = connection.execute(query.order_by(products.c.id).with_for_update()).scalars()
            _set(connection, list(ids), now + self._repair_horizon)


def _set(
    connection: Connection, product_ids: Collection[str], check_after: datetime | None
) -> None:
    if product_ids:
        connection.execute(
            update(products).where(products.c.id.in_(product_ids)).values(check_after=check_after)
        )
