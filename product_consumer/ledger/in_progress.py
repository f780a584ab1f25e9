"""The messages that are being decoded or embedded, so that a crash leaves its suspects behind.

An image can crash a decoder or a device, and then no process is left to name the image. So the
messages of a batch are recorded before that work, with the name of their process, and removed after
it. A message whose process has ended without removing it is a crash suspect. From then on it is
worked on alone, and only two crashes *while alone* reject it. A kill -9 within a batch looks like a
crash by one of its messages: to reject after two crashes of any kind would hit innocent messages.

A message of a process that still lives proves nothing: the process is slow, or could not reach the
ledger to remove it. A process on another machine cannot be seen, and is taken for ended.
"""

import functools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Delete, delete, select, update

from product_consumer.database.bulk_insert import BulkInsert
from product_consumer.database.connection import Database
from product_consumer.errors import RejectMessage
from product_consumer.ledger.process_names import has_ended, name_of_this_process
from product_consumer.ledger.tables import suspects

MAX_CRASHES_ALONE = 2

KEPT_FOR = timedelta(days=15)
"""SQS keeps a message for 14 days: an older record is of a message that never comes again."""


@dataclass(frozen=True, slots=True)
class CrashSuspect:
    """A message that a process left in progress, now or before."""

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

    def __init__(self, database: Database, process: str | None = None) -> None:
        """``process``: the name of this process, for tests another one's."""
        self._database = database
        self._given_name = process
        self._has_removed_old = False

    @functools.cached_property
    def _process(self) -> str:
        return self._given_name or name_of_this_process()

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

        A suspect's record stays as it is. A message that a living process has in work is none.
        """
        if not message_ids:
            return {}
        now = datetime.now(UTC)
        rows = [self._row(message_id, now) for message_id in sorted(set(message_ids))]
        with self._database.writing_in_steps() as connection:
            self._remove_old(connection, now)
            started = {row.message_id for row in self._insert(connection, rows)}
            if len(started) == len(rows):
                return {}
            left_behind = set(message_ids) - started
            found = connection.execute(
                select(suspects).where(self._is_listed), {"ids": self._database.texts(left_behind)}
            ).all()
            result = {row.message_id: suspect for row in found if (suspect := self._suspect(row))}
            self._take_over(connection, left_behind - result.keys(), now)
        return result

    def start_alone(self, suspect: CrashSuspect) -> None:
        """Record that a suspect will be worked on with no other message beside it."""
        row = self._row(suspect.message_id, datetime.now(UTC))
        row |= {"is_alone": True, "deaths_alone": suspect.crashes_alone}
        insert = self._database.insert(suspects).values(row)
        statement = insert.on_conflict_do_update(index_elements=["message_id"], set_=row)
        with self._database.writing_in_steps() as connection:
            connection.execute(statement)

    def finish(self, message_ids: Iterable[str]) -> None:
        """Remove messages whose work is done, or failed without a crash."""
        ids = set(message_ids)
        if not ids:
            return
        with self._database.writing_in_steps() as connection:
            connection.execute(self._delete, {"ids": self._database.texts(ids)})

    def leave(self) -> None:
        """Remove all messages of this process, which ends for another reason than these."""
        with self._database.writing_in_steps() as connection:
            connection.execute(delete(suspects).where(suspects.c.process == self._process))

    def _row(self, message_id: str, now: datetime) -> dict[str, object]:
        return {
            "message_id": message_id,
            "is_alone": False,
            "deaths_alone": 0,
            "noted_at": now,
            "process": self._process,
        }

    def _take_over(self, connection: Connection, message_ids: set[str], now: datetime) -> None:
        """Name this process for messages that another one has in work, too: either may crash."""
        if message_ids:
            connection.execute(
                update(suspects).where(self._is_listed).values(process=self._process, noted_at=now),
                {"ids": self._database.texts(message_ids)},
            )

    def _suspect(self, row: Any) -> CrashSuspect | None:
        if row.process == self._process or (row.process and has_ended(row.process) is False):
            # In work at this moment. If it was a suspect before, it still is one.
            is_suspect = row.is_alone or row.deaths_alone
            return CrashSuspect(row.message_id, row.deaths_alone) if is_suspect else None
        return CrashSuspect(row.message_id, row.deaths_alone + int(row.is_alone))

    def _remove_old(self, connection: Connection, now: datetime) -> None:
        """Remove the records of messages that were never worked on again; once per process."""
        if not self._has_removed_old:
            connection.execute(delete(suspects).where(suspects.c.noted_at < now - KEPT_FOR))
            self._has_removed_old = True
