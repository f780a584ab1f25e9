"""Inserts of many rows by one statement, which stays the same however many rows there are.

On PostgreSQL each column is one parameter, an array. The two other ways cost more. Rows sent as
statements of their own make the driver release the GIL for each, thirty times a message. A
statement with the values of all rows in it is parsed again whenever their number changes.

The driver also parses each statement of more than 4,096 characters again, so names are short here.
"""

from collections.abc import Callable, Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from sqlalchemy import ARRAY, Connection, Row, Table, bindparam, cast, func, literal_column, select

from product_consumer.database.connection import Database

Rows = Sequence[Mapping[str, Any]]
Finish = Callable[[Any], Any]
"""Adds the conflict clause and the returned columns to an insert."""


class BulkInsert:
    """An insert of rows into one table, and of others into the tables ``beside`` it.

    On PostgreSQL all are one statement. Thread-safe.
    """

    def __init__(
        self, database: Database, table: Table, finish: Finish, *beside: tuple[Table, Finish]
    ) -> None:
        inserts = [(table, finish), *beside]
        self._tables = [table for table, _ in inserts]
        self._is_sqlite = database.is_sqlite
        if database.is_sqlite:
            self._statements = [finish(database.insert(table)) for table, finish in inserts]
        else:
            main, *others = (
                finish(_from_arrays(database.insert(table), table, table_number))
                for table_number, (table, finish) in enumerate(inserts)
            )
            ctes = [other.cte(f"cte{number}") for number, other in enumerate(others, 1)]
            self._statements = [main.add_cte(*ctes)]

    def __call__(self, connection: Connection, *rows: Rows) -> Sequence[Row[Any]]:
        """Insert rows, one sequence per table, the main table first; return its insert's result.

        A row has a value for every column of its table. Where a conflict updates, no two rows may
        have the same key.
        """
        if self._is_sqlite:
            inserts = zip(self._statements, rows, strict=True)
            returned = [
                _execute(connection, insert, table_rows) if table_rows else ()
                for insert, table_rows in inserts
            ]
            return returned[0]
        arrays = {
            _parameter(table_number, column_number): [row[column.name] for row in table_rows]
            for table_number, (table, table_rows) in enumerate(zip(self._tables, rows, strict=True))
            for column_number, column in enumerate(table.columns)
        }
        return _execute(connection, self._statements[0], arrays)


def _from_arrays(insert: Any, table: Table, table_number: int) -> Any:
    arrays = [
        cast(bindparam(_parameter(table_number, column_number)), ARRAY(column.type))
        for column_number, column in enumerate(table.columns)
    ]
    rows: Any = select(literal_column("*")).select_from(func.unnest(*arrays).alias("r"))
    return insert.from_select(table.columns.keys(), rows)


def _parameter(table_number: int, column_number: int) -> str:
    return f"{ascii_lowercase[table_number]}{column_number}"


def _execute(connection: Connection, statement: Any, parameters: Any) -> Sequence[Row[Any]]:
    result = connection.execute(statement, parameters)
    return result.all() if result.returns_rows else ()
