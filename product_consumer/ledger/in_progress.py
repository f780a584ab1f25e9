"""The messages that are being decoded or embedded, so that a crash leaves its suspects behind.

An image can crash a decoder or a device, and then no process is left to name the image. So the
messages of a batch are recorded before that work and removed after it. A message that is still here
when it is delivered again is a crash suspect. From then on it is worked on alone, and only two
crashes *while alone* reject it. A kill -9 within a batch looks like a crash by one of its messages:
to reject after two crashes of any kind would hit innocent messages.
"""

import functools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Delete, delete, select, update

from product_consumer.database.bulk_insert import BulkInsert
from product_consumer.database.connection import Database
from product_consumer.errors import RejectMessage
from product_consumer.ledger.tables import suspects

MAX_CRASHES_ALONE = 2


@dataclass(frozen=True, slots=True)
class CrashSuspect:
    """A message that a process left in progress."""

    message_id: str
    crashes_alone: int
    """Processes that died while they worked on it alone."""

    def check(self) -> None:
        """Raise ``RejectMessage`` (``crash_suspect``) when it has crashed too many processes."""
        if self.crashes_alone >= MAX_CRASHES_ALONE:
            detail = f"{self.crashes_alone} processes died while they worked on it alone"
            raise RejectMessage("crash_suspect", detail)


class InProgress:
    """The table of messages in progress. Thread-safe; raises as ``Database`` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @functools.cached_property
    def _insert(self) -> BulkInsert:
        return BulkInsert(
            self._database,
            suspects,
            lambda insert: insert.on_conflict_do_nothing().returning(suspects.c.message_id),
        )

    @functools.cached_property
    def _is_listed(self) -> ColumnElement[bool]:
        return self._database.among(suspects.c.message_id, "ids")

    @functools.cached_property
    def _delete(self) -> Delete:
        return delete(suspects).where(self._is_listed)

    def start(self, message_ids: Collection[str]) -> dict[str, CrashSuspect]:
        """Record messages that will be worked on together; return the suspects among them, by id.

        A suspect's record stays as it is.
        """
        if not message_ids:
            return {}
        now = datetime.now(UTC)
        rows = [_row(message_id, now) for message_id in sorted(set(message_ids))]
        with self._database.writing_in_steps() as connection:
            started = {row.message_id for row in self._insert(connection, rows)}
            if len(started) == len(rows):
                return {}
            left_behind = self._database.texts(set(message_ids) - started)
            suspect_rows = connection.execute(
                select(suspects).where(self._is_listed), {"ids": left_behind}
            ).all()
        return {
            row.message_id: CrashSuspect(row.message_id, row.deaths_alone + int(row.is_alone))
            for row in suspect_rows
        }

    def start_alone(self, suspect: CrashSuspect) -> None:
        """Record that a suspect will be worked on with no other message beside it."""
        with self._database.writing_in_steps() as connection:
            connection.execute(
                update(suspects)
                .where(suspects.c.message_id == suspect.message_id)
                .values(
                    is_alone=True, deaths_alone=suspect.crashes_alone, noted_at=datetime.now(UTC)
                )
            )

    def finish(self, message_ids: Iterable[str]) -> None:
        """Remove messages whose work is done, or failed without a crash."""
        ids = set(message_ids)
        if not ids:
            return
        with self._database.writing_in_steps() as connection:
            connection.execute(self._delete, {"ids": self._database.texts(ids)})


def _row(message_id: str, now: datetime) -> dict[str, object]:
    return {"message_id": message_id, "is_alone": False, "deaths_alone": 0, "noted_at": now}
