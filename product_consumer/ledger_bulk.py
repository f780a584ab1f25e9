"""Inserts of many rows by one statement that stays the same, however many they are.

On PostgreSQL each column is one parameter, an array. The client's library gives up the GIL for
every row that it sends as a statement of its own, thirty times a message, and a statement with all
rows' values in it has to be read anew whenever their number changes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Connection, Row, Table, bindparam, cast, func, select

from product_consumer.ledger_database import Database

Rows = Sequence[Mapping[str, Any]]


class BulkInsert:
    """Inserts rows into one table; ``finish`` adds to the statement what a conflict does and what
    is returned. Those ``beside`` it insert into tables of theirs at the same time, on PostgreSQL
    as parts of the same statement.
    """

    def __init__(
        self,
        database: Database,
        table: Table,
        finish: Callable[[Any], Any],
        beside: Sequence["BulkInsert"] = (),
    ) -> None:
        self._table = table
        self._beside = beside
        self._is_sqlite = database.is_sqlite
        insert = database.insert(table)
        if database.is_sqlite:
            self._statement = finish(insert)
        else:
            parts = [each._statement.cte(f"into_{each._table.name}") for each in beside]
            self._statement = finish(_from_arrays(insert, table)).add_cte(*parts)

    def __call__(self, connection: Connection, rows: Rows, *beside: Rows) -> Sequence[Row[Any]]:
        """Insert rows that have a value for every column, and those ``beside`` them into their
        tables; return what the statement for ``rows`` returns.

        An ``ON CONFLICT DO UPDATE`` takes no two rows of one key.
        """
        if self._is_sqlite:
            for insert, its_rows in zip(self._beside, beside, strict=True):
                insert(connection, its_rows)
            return _execute(connection, self._statement, rows) if rows else ()
        parameters = self._arrays(rows)
        for insert, its_rows in zip(self._beside, beside, strict=True):
            parameters |= insert._arrays(its_rows)
        return _execute(connection, self._statement, parameters)

    def _arrays(self, rows: Rows) -> dict[str, list[Any]]:
        return {
            _parameter(self._table, each.name): [row[each.name] for row in rows]
            for each in self._table.columns
        }


def _from_arrays(insert: Any, table: Table) -> Any:
    columns = table.columns
    arrays = [cast(bindparam(_parameter(table, each.name)), ARRAY(each.type)) for each in columns]
    rows = func.unnest(*arrays).table_valued(*columns.keys()).render_derived()
    return insert.from_select(columns.keys(), select(rows))


def _parameter(table: Table, column: str) -> str:
    return f"{table.name}_{column}"


def _execute(connection: Connection, statement: Any, parameters: Any) -> Sequence[Row[Any]]:
    found = connection.execute(statement, parameters)
    return found.all() if found.returns_rows else ()
