"""The shared state of a test's processes: a real ledger, two stores, and a clock to set."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from product_consumer.database.connection import Database
from product_consumer.errors import ProductConsumerError
from product_consumer.ledger import recording
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.pending_checks import PendingChecks
from product_consumer.ledger.tables import price_history, products, review_history
from product_consumer.models import ProductRow
from product_consumer.pipeline import circuit_breaker
from product_consumer.stores.memory import InMemoryStore
from tests.faults.interleaving.runner import DIMENSION, HORIZON_SECONDS, Result, Step

STARTED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
TABLES = (products, price_history, review_history)

Rows = Mapping[str, ProductRow]
Dump = tuple[tuple[tuple[Any, ...], ...], ...]


class BlindStore(InMemoryStore):
    """A store that has the row that was written last, as Milvus does: it cannot compare."""

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        for row in rows:
            self._rows.pop(row.id, None)
            if not row.deleted:
                self._rows[row.id] = row
        return {}

    @property
    def contents(self) -> Rows:
        return dict(self._rows)

    @contents.setter
    def contents(self, rows: Rows) -> None:
        self._rows = dict(rows)


class ComparingStore(BlindStore):
    """A store that refuses an older revision, as Elasticsearch does."""

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        return InMemoryStore.write(self, rows)


class Clock:
    """The time that the ledger sees. Two writers may meet in the same microsecond."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.now = STARTED_AT

    def advance_beyond_the_horizon(self) -> None:
        self.now += timedelta(seconds=2 * HORIZON_SECONDS)

    @property
    def sweeping_at(self) -> datetime:
        """Differs from every writer's time, as it does in practice."""
        return self.now + timedelta(microseconds=1)


class Rig:
    """Performs steps on a real ledger, in ``directory``, and on two stores.

    A directory in memory is faster: the ledger waits for its disk.
    """

    def __init__(
        self,
        directory: Path,
        patch: pytest.MonkeyPatch,
        ledger_type: type[Ledger] = Ledger,
        pending_checks_type: type[PendingChecks] = PendingChecks,
    ) -> None:
        self.clock = clock = Clock()

        class ClockedDatetime(datetime):
            @classmethod
            def now(cls, _zone: Any = None) -> Any:
                return clock.now

        patch.setattr(recording, "datetime", ClockedDatetime)
        # The test decides whether a component is up again.
        patch.setattr(circuit_breaker, "FIRST_PAUSE_SECONDS", 0.0)
        database = Database(
            f"sqlite:///{directory / 'products.db'}", timeout_seconds=5, connections=2
        )
        self.ledger = ledger_type(database, repair_horizon_seconds=HORIZON_SECONDS)
        self.ledger.setup()
        identity = self.ledger.claim_model("stand-in", DIMENSION)
        self.pending_checks = pending_checks_type(database, repair_horizon_seconds=HORIZON_SECONDS)
        self.stores: dict[str, BlindStore] = {"milvus": BlindStore(), "keywords": ComparingStore()}
        for store in self.stores.values():
            store.setup(identity)
        self._components: dict[str, Any] = {
            "ledger": self.ledger,
            "pending_checks": self.pending_checks,
            **self.stores,
        }

    def close(self) -> None:
        self.ledger.close()

    def perform(self, step: Step) -> Result:
        """Perform the step as one indivisible action."""
        try:
            return Result(getattr(self._components[step.component], step.method)(*step.arguments))
        except ProductConsumerError as error:
            return Result(error)

    def dump_ledger(self) -> Dump:
        """Everything in the ledger that a message or a sweep can change."""
        with self.ledger.database.reading() as connection:
            dumped = [
                connection.execute(select(table).order_by(*table.columns)) for table in TABLES
            ]
            return tuple(tuple(tuple(row) for row in rows) for rows in dumped)

    def restore_ledger(self, dump: Dump) -> None:
        with self.ledger.database.writing() as connection:
            for table, rows in zip(TABLES, dump, strict=True):
                connection.execute(delete(table))
                if rows:
                    names = [column.name for column in table.columns]
                    values = [dict(zip(names, row, strict=True)) for row in rows]
                    connection.execute(insert(table), values)

    def empty(self) -> None:
        """Reset the clock, the ledger and the stores."""
        self.clock.reset()
        self.restore_ledger(((), (), ()))
        for store in self.stores.values():
            store.contents = {}
