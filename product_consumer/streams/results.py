"""The results of stages in SQL: what became of each request, for the clients that wait for it."""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Column, Index, MetaData, Row, Select, Table, Text, select

from product_consumer.database.bulk_insert import BulkInsert
from product_consumer.database.column_types import Bytewise, UtcTimestamp
from product_consumer.database.connection import Database
from product_consumer.pipeline.group_commit import GroupCommit
from product_consumer.text import cut_to_bytes

DONE, REJECTED = "done", "rejected"
MAX_RESULTS = 1000
"""Most results of one list."""
MAX_ID_BYTES = 1024
"""A correlation id of RabbitMQ has up to 255 bytes."""

# PostgreSQL refuses NUL in text; half a character has no UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CHANGING = ("kind", "status", "result", "reason", "model", "updated_at")

metadata = MetaData()

results = Table(
    "results",
    metadata,
    Column("correlation_id", Bytewise, primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    # JSON; null for a message that was rejected.
    Column("result", Text, nullable=False),
    Column("reason", Text),
    Column("model", Text),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
    Index("results_created_at", "created_at"),
)


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage made of one message, or why it rejected it."""

    correlation_id: str
    stage: str
    kind: str
    status: str
    """``done`` or ``rejected``."""
    result: str | None
    """JSON text; None where it was rejected."""
    reason: str | None
    """Why it was rejected: a name, as the dead letter has it."""
    model: str | None
    created_at: datetime

    def value(self) -> Any:
        """Return the result decoded; None where it was rejected."""
        return None if self.result is None else json.loads(self.result)


class ResultStore:
    """The table of results. Thread-safe.

    Every method may raise ``LedgerUnavailable`` or ``ConfigurationError``. A correlation id may be
    any text: what a column cannot hold is replaced, when it is written and when it is asked for.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._upsert = BulkInsert(database, results, _replace_result)
        self._grouped = GroupCommit("ledger", self._write)
        self._is_asked_for = database.among(results.c.correlation_id, "ids")

    def setup(self) -> None:
        """Create the table if it is missing; safe when several processes start together."""
        with self._database.setting_up() as connection:
            metadata.create_all(connection)

    def record(self, rows: Sequence[StageResult]) -> None:
        """Store results; of the same request and stage, the last one stays.

        The calls of several threads become one.
        """
        self._grouped(rows)

    def of(self, correlation_id: str) -> list[StageResult]:
        """Return the results of one request, the first stage first."""
        query = _select().where(results.c.correlation_id == storable(correlation_id))
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(results.c.created_at, results.c.stage))
            return [_as_result(row) for row in found]

    def present(self, correlation_ids: Collection[str]) -> set[str]:
        """Return those of the requests that have a result."""
        asked = {storable(correlation_id): correlation_id for correlation_id in correlation_ids}
        query = select(results.c.correlation_id).distinct().where(self._is_asked_for)
        with self._database.reading() as connection:
            found = connection.execute(query, {"ids": self._database.texts(asked)})
            return {asked[row.correlation_id] for row in found}

    def latest(
        self, *, status: str | None = None, kind: str | None = None, limit: int = 100
    ) -> list[StageResult]:
        """Return results, the latest first; None matches all."""
        query = _select().order_by(results.c.created_at.desc(), results.c.correlation_id)
        for column, value in ((results.c.status, status), (results.c.kind, kind)):
            if value is not None:
                query = query.where(column == storable(value))
        with self._database.reading() as connection:
            found = connection.execute(query.limit(max(0, min(limit, MAX_RESULTS))))
            return [_as_result(row) for row in found]

    def probe(self) -> None:
        """Raise while no result could be stored: store one and take it back."""
        now = datetime.now(UTC)
        row = StageResult(f" {uuid4()}", "probe", "probe", DONE, "{}", None, None, now)
        with self._database.rehearsing() as connection:
            self._upsert(connection, [_as_row(row)])

    def _write(self, rows: Sequence[StageResult]) -> Sequence[None]:
        by_key = {(row.correlation_id, row.stage): row for row in map(_storable_row, rows)}
        # Sorted, so that two processes lock the rows in the same order.
        with self._database.writing_in_steps() as connection:
            self._upsert(connection, [_as_row(by_key[key]) for key in sorted(by_key)])
        return [None] * len(rows)


def storable(text: str) -> str:
    """Return text as the table holds it: without NUL and halves of characters, and not endless."""
    return cut_to_bytes(_without_unstorable(text), MAX_ID_BYTES)


def _without_unstorable(text: str) -> str:
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _storable_row(row: StageResult) -> StageResult:
    return replace(
        row,
        correlation_id=storable(row.correlation_id),
        kind=storable(row.kind),
        result=None if row.result is None else _without_unstorable(row.result),
        reason=None if row.reason is None else storable(row.reason),
        model=None if row.model is None else storable(row.model),
    )


def _replace_result(insert: Any) -> Any:
    return insert.on_conflict_do_update(
        index_elements=[results.c.correlation_id, results.c.stage],
        set_={name: insert.excluded[name] for name in _CHANGING},
    )


def _select() -> Select[Any]:
    columns = results.c
    return select(
        columns.correlation_id,
        columns.stage,
        columns.kind,
        columns.status,
        columns.result,
        columns.reason,
        columns.model,
        columns.created_at,
    )


def _as_row(row: StageResult) -> dict[str, Any]:
    return {
        "correlation_id": row.correlation_id,
        "stage": row.stage,
        "kind": row.kind,
        "status": row.status,
        "result": "null" if row.result is None else row.result,
        "reason": row.reason,
        "model": row.model,
        "created_at": row.created_at,
        "updated_at": row.created_at,
    }


def _as_result(row: Row[Any]) -> StageResult:
    result = None if row.result == "null" else row.result
    return StageResult(
        row.correlation_id,
        row.stage,
        row.kind,
        row.status,
        result,
        row.reason,
        row.model,
        row.created_at,
    )
