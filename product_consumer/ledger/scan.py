"""A scan of all products in the ledger, in pages of ids, and the saved positions of scans."""

from sqlalchemy import delete, func, select

from product_consumer.database.connection import Database
from product_consumer.ledger.tables import ledger_meta, products


class LedgerScan:
    """All product ids in order, a page at a time. Thread-safe; raises as ``Database`` does.

    A scan does not see products that are recorded behind its position. The worker that records them
    writes them to the stores itself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self) -> int:
        """Return how many products there are, tombstones included; may take minutes."""
        query = select(func.count()).select_from(products)
        with self._database.reading_long() as connection:
            return int(connection.execute(query).scalar_one())

    def ids_after(self, last_id: str, limit: int) -> list[str]:
        """Return the next ids in byte order; the empty text comes before all ids."""
        query = (
            select(products.c.id)
            .where(products.c.id > last_id)
            .order_by(products.c.id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def position(self, name: str) -> str | None:
        """Return the last id that the named scan has finished; None where none is saved."""
        query = select(ledger_meta.c.value).where(ledger_meta.c.key == _key(name))
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    def save_position(self, name: str, last_id: str) -> None:
        """Save the last id that the named scan has finished, over restarts and for all machines."""
        insert = self._database.insert(ledger_meta)
        statement = insert.on_conflict_do_update(
            index_elements=[ledger_meta.c.key], set_={"value": insert.excluded.value}
        )
        with self._database.writing() as connection:
            connection.execute(statement, {"key": _key(name), "value": last_id})

    def clear_position(self, name: str) -> None:
        """Remove the position of a scan that is complete, or starts again."""
        with self._database.writing() as connection:
            connection.execute(delete(ledger_meta).where(ledger_meta.c.key == _key(name)))


def _key(name: str) -> str:
    return f"position:{name}"
