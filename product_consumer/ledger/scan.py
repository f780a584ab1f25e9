"""The ledger read from end to end, in pages of ids, and how far such a reading has come."""

from sqlalchemy import delete, func, select

from product_consumer.database.connection import Database
from product_consumer.ledger.tables import ledger_meta, products


class LedgerScan:
    """Walks over ``products`` in id order. Thread-safe; raises as ``Database`` does.

    Products that appear behind the reader while it walks are not seen; the worker that recorded
    them shows them itself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self) -> int:
        """Return how many products there are, tombstones included; minutes for very many."""
        query = select(func.count()).select_from(products)
        with self._database.reading_long() as connection:
            return int(connection.execute(query).scalar_one())

    def ids_after(self, last_id: str, limit: int) -> list[str]:
        """Return the next ids, byte by byte in order; the empty text comes before all of them."""
        query = (
            select(products.c.id)
            .where(products.c.id > last_id)
            .order_by(products.c.id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def position(self, reader: str) -> str | None:
        """Return the last id that the named reader has finished with; None when it has none."""
        query = select(ledger_meta.c.value).where(ledger_meta.c.key == _key(reader))
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    def keep_position(self, reader: str, last_id: str) -> None:
        """Remember it, over restarts and for other machines."""
        insert = self._database.insert(ledger_meta)
        statement = insert.on_conflict_do_update(
            index_elements=[ledger_meta.c.key], set_={"value": insert.excluded.value}
        )
        with self._database.writing() as connection:
            connection.execute(statement, {"key": _key(reader), "value": last_id})

    def forget_position(self, reader: str) -> None:
        """The reader came to the end, or starts again."""
        with self._database.writing() as connection:
            connection.execute(delete(ledger_meta).where(ledger_meta.c.key == _key(reader)))


def _key(reader: str) -> str:
    return f"position:{reader}"
