"""Statements that read the ledger and are more than one condition; each is built once."""

from typing import Any

from sqlalchemy import Select, Table, bindparam, literal_column, select, true

from product_consumer.database.connection import Database
from product_consumer.ledger.tables import products


def image_embeddings_query(database: Database) -> Select[Any]:
    """Return the packed image embedding of each digest in the parameter ``sha256s``.

    It is NULL where the model ``model_id`` has embedded no image with this digest.
    """
    digests = database.table_of("sha256s")
    # One row per digest: any number of products may have the same placeholder image.
    packed = (
        select(products.c.image_embedding)
        .where(products.c.image_sha256 == digests.c.value)
        .where(products.c.model_id == bindparam("model_id"))
        .limit(1)
        .scalar_subquery()
    )
    return select(digests.c.value, packed)


def newest_query(database: Database, table: Table) -> Select[Any]:
    """Return the last ``limit`` rows in a history of each product in ``ids``, newest first.

    Older rows are not read, however many there are.
    """
    ids, last = database.table_of("ids"), table.alias("last")

    def newest(*columns: Any) -> Select[Any]:
        of_one_id = select(*columns).select_from(last).where(last.c.product_id == ids.c.value)
        return of_one_id.order_by(*_newest_first(last)).limit(bindparam("limit"))

    if database.is_sqlite:
        # SQLite has no LATERAL, but an id for every row.
        history: Any = table
        row_ids = newest(literal_column("rowid")).correlate(ids)
        is_newest: Any = literal_column(f"{table.name}.rowid").in_(row_ids)
    else:
        history, is_newest = newest(last).lateral(), true()
    order = (history.c.product_id, *_newest_first(history))
    return select(*history.c).select_from(ids.join(history, is_newest)).order_by(*order)


def _newest_first(history: Any) -> list[Any]:
    """The order of the history's own index, backwards."""
    return [column.desc() for column in history.c if column.name != "product_id"]
