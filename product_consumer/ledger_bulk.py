"""Inserts of many rows by one statement that stays the same, however many they are.

On PostgreSQL each column is one parameter, an array. The client's library gives up the GIL for
every row that it sends as a statement of its own, thirty times a message, and a statement with all
rows' values in it has to be read anew whenever their number changes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Connection, Row, Table, bindparam, cast, func, select

from product_consumer.ledger_database import Database

Values = Mapping[str, Any]


class BulkInsert:
    """Inserts rows into one table; ``finish`` adds to the statement what a conflict does and what
    is returned.
    """

    def __init__(self, database: Database, table: Table, finish: Callable[[Any], Any]) -> None:
        self._names = table.columns.keys()
        self._is_sqlite = database.is_sqlite
        insert = database.insert(table)
        self._statement = finish(insert if database.is_sqlite else _from_arrays(insert, table))

    def __call__(self, connection: Connection, rows: Sequence[Values]) -> Sequence[Row[Any]]:
        """Insert rows that have a value for every column; return what the statement returns.

        An ``ON CONFLICT DO UPDATE`` takes no two rows of one key.
        """
        if not rows:
            return ()
        parameters: Any = rows
        if not self._is_sqlite:
            parameters = {name: [row[name] for row in rows] for name in self._names}
        found = connection.execute(self._statement, parameters)
        return found.all() if found.returns_rows else ()


def _from_arrays(insert: Any, table: Table) -> Any:
    columns = table.columns
    arrays = [cast(bindparam(each.name), ARRAY(each.type)) for each in columns]
    rows = func.unnest(*arrays).table_valued(*columns.keys()).render_derived()
    return insert.from_select(columns.keys(), select(rows))
