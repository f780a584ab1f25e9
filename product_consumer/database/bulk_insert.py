"""Inserts of many rows by one statement that stays the same, however many they are.

On PostgreSQL each column is one parameter, an array. The client's library gives up the GIL for
every row that it sends as a statement of its own, thirty times a message, and a statement with all
rows' values in it has to be read anew whenever their number changes. So has one of more than 4,096
characters, whatever it says: that is why names are short here.
"""

from collections.abc import Callable, Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from sqlalchemy import ARRAY, Connection, Row, Table, bindparam, cast, func, literal_column, select

from product_consumer.database.connection import Database

Rows = Sequence[Mapping[str, Any]]
Finish = Callable[[Any], Any]
"""Adds to an insert what a conflict does, and what is returned."""


class BulkInsert:
    """Inserts rows into a table, and others into the tables ``beside`` it: on PostgreSQL all by one
    statement.
    """

    def __init__(
        self, database: Database, table: Table, finish: Finish, *beside: tuple[Table, Finish]
    ) -> None:
        parts = [(table, finish), *beside]
        self._tables = [table for table, _ in parts]
        self._is_sqlite = database.is_sqlite
        if database.is_sqlite:
            self._statements = [finish(database.insert(table)) for table, finish in parts]
        else:
            main, *others = (
                finish(_from_arrays(database.insert(table), table, place))
                for place, (table, finish) in enumerate(parts)
            )
            ctes = [other.cte(f"part{place}") for place, other in enumerate(others, 1)]
            self._statements = [main.add_cte(*ctes)]

    def __call__(self, connection: Connection, *rows: Rows) -> Sequence[Row[Any]]:
        """Insert rows that have a value for every column of their table, the first into the main
        one; return what its statement returns.

        An ``ON CONFLICT DO UPDATE`` takes no two rows of one key.
        """
        if self._is_sqlite:
            steps = zip(self._statements, rows, strict=True)
            found = [_execute(connection, each, its) if its else () for each, its in steps]
            return found[0]
        arrays = {
            _parameter(place, number): [row[column.name] for row in its_rows]
            for place, (table, its_rows) in enumerate(zip(self._tables, rows, strict=True))
            for number, column in enumerate(table.columns)
        }
        return _execute(connection, self._statements[0], arrays)


def _from_arrays(insert: Any, table: Table, place: int) -> Any:
    arrays = [
        cast(bindparam(_parameter(place, number)), ARRAY(column.type))
        for number, column in enumerate(table.columns)
    ]
    rows: Any = select(literal_column("*")).select_from(func.unnest(*arrays).alias("r"))
    return insert.from_select(table.columns.keys(), rows)


def _parameter(place: int, number: int) -> str:
    return f"{ascii_lowercase[place]}{number}"


def _execute(connection: Connection, statement: Any, parameters: Any) -> Sequence[Row[Any]]:
    found = connection.execute(statement, parameters)
    return found.all() if found.returns_rows else ()
