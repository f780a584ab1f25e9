"""Stores flags, and the usual price and quantity of products, in the ledger's database."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from product_consumer.database.bulk_insert import BulkInsert
from product_consumer.database.connection import Database
from product_consumer.orders.models import Order
from product_consumer.quality.models import QualityFlag
from product_consumer.quality.rules import ProductUse
from product_consumer.quality.tables import metadata, product_order_history, quality_flags

MAX_FLAGS = 1000
"""Most flags of one result."""
_KEY = ("subject", "subject_id", "code", "source")


class QualityStore:
    """The tables of the quality checks. Thread-safe.

    Every method may raise ``LedgerUnavailable`` or ``ConfigurationError``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._add = BulkInsert(database, quality_flags, _replace_flag)
        self._observe = BulkInsert(database, product_order_history, _add_to_history)
        is_asked_for = database.among(product_order_history.c.product_id, "ids")
        self._uses = select(product_order_history).where(is_asked_for)

    def setup(self) -> None:
        """Create the tables that are missing; safe when several processes start together."""
        with self._database.setting_up() as connection:
            metadata.create_all(connection)

    def add(self, flags: Sequence[QualityFlag]) -> None:
        """Store flags; the same flag again replaces its reason and time."""
        rows = {tuple(getattr(flag, name) for name in _KEY): _flag_row(flag) for flag in flags}
        if not rows:
            return
        with self._database.writing_in_steps() as connection:
            self._add(connection, [rows[key] for key in sorted(rows)])

    def flags(
        self,
        *,
        subject: str | None = None,
        subject_id: str | None = None,
        code: str | None = None,
        limit: int = 100,
    ) -> list[QualityFlag]:
        """Return flags, the latest first; None matches all."""
        columns = quality_flags.c
        query = (
            select(columns.subject, columns.subject_id, columns.code, columns.reason)
            .add_columns(columns.source, columns.at)
            .order_by(columns.at.desc(), columns.subject_id, columns.code)
            .limit(max(0, min(limit, MAX_FLAGS)))
        )
        filters = {"subject": subject, "subject_id": subject_id, "code": code}
        for name, value in filters.items():
            if value is not None:
                query = query.where(columns[name] == value)
        with self._database.reading() as connection:
            return [QualityFlag(*row) for row in connection.execute(query)]

    def product_uses(self, product_ids: Iterable[str]) -> dict[tuple[str, str], ProductUse]:
        """Return usual prices and quantities, by (product id, currency)."""
        parameters = {"ids": self._database.texts(set(product_ids))}
        with self._database.reading() as connection:
            return {
                (row.product_id, row.currency): ProductUse(
                    row.observations, row.mean_unit_minor, row.mean_quantity
                )
                for row in connection.execute(self._uses, parameters)
            }

    def observe(self, orders: Sequence[Order]) -> None:
        """Add the lines of orders to the histories of their products."""
        lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for order in orders:
            for item in order.items:
                key = (item.product_id, order.currency)
                lines.setdefault(key, []).append((item.unit_minor, item.json_quantity))
        if not lines:
            return
        # Sorted, so that two processes lock the rows in the same order.
        rows = [_use_row(key, lines[key]) for key in sorted(lines)]
        with self._database.writing_in_steps() as connection:
            self._observe(connection, rows)


def _replace_flag(insert: Any) -> Any:
    return insert.on_conflict_do_update(
        index_elements=[quality_flags.c[name] for name in _KEY],
        set_={name: insert.excluded[name] for name in ("reason", "at")},
    )


def _add_to_history(insert: Any) -> Any:
    table, new = product_order_history, insert.excluded
    together = table.c.observations + new.observations
    means = {
        name: (table.c[name] * table.c.observations + new[name] * new.observations) / together
        for name in ("mean_unit_minor", "mean_quantity")
    }
    return insert.on_conflict_do_update(
        index_elements=[table.c.product_id, table.c.currency],
        set_={"observations": together, **means},
    )


def _flag_row(flag: QualityFlag) -> dict[str, Any]:
    return {
        "subject": flag.subject,
        "subject_id": flag.subject_id,
        "code": flag.code,
        "source": flag.source,
        "reason": flag.reason,
        "at": flag.at,
    }


def _use_row(key: tuple[str, str], lines: Sequence[tuple[int, float]]) -> Mapping[str, Any]:
    count = len(lines)
    return {
        "product_id": key[0],
        "currency": key[1],
        "observations": count,
        "mean_unit_minor": sum(unit for unit, _ in lines) / count,
        "mean_quantity": sum(quantity for _, quantity in lines) / count,
    }
