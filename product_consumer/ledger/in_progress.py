"""Remembers which messages were being decoded or embedded when a process died.

A picture can crash a decoder or a device, and then nobody is left to say which one it was. So the
messages of a batch are noted before that work and forgotten after it. One that is still noted when
it is delivered again is a suspect: from then on it is handled alone, and only two deaths *while
alone* reject it. A kill -9 in the middle of a batch cannot be told from a crash by one of its
members; rejecting after two deaths of any kind would hit innocents.
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

MAX_DEATHS_ALONE = 2


@dataclass(frozen=True, slots=True)
class Suspect:
    """A message noted and never forgotten. ``deaths_alone``: processes that died on it alone."""

    message_id: str
    deaths_alone: int

    def check(self) -> None:
        """Raise ``RejectMessage`` (``crash_suspect``) when it has proved itself."""
        if self.deaths_alone >= MAX_DEATHS_ALONE:
            detail = f"{self.deaths_alone} processes died while they worked on it alone"
            raise RejectMessage("crash_suspect", detail)


class Suspects:
    """The table of noted messages. Thread-safe; raises as ``Database`` does."""

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
    def _wanted(self) -> ColumnElement[bool]:
        return self._database.among(suspects.c.message_id, "ids")

    @functools.cached_property
    def _delete(self) -> Delete:
        return delete(suspects).where(self._wanted)

    def note(self, message_ids: Collection[str]) -> dict[str, Suspect]:
        """Note messages about to be worked on together, except suspects, which it returns."""
        if not message_ids:
            return {}
        now = datetime.now(UTC)
        rows = [_row(message_id, now) for message_id in sorted(set(message_ids))]
        with self._database.writing_in_steps() as connection:
            noted = {row.message_id for row in self._insert(connection, rows)}
            if len(noted) == len(rows):
                return {}
            left_behind = self._database.texts(set(message_ids) - noted)
            found = connection.execute(
                select(suspects).where(self._wanted), {"ids": left_behind}
            ).all()
        return {
            row.message_id: Suspect(row.message_id, row.deaths_alone + int(row.is_alone))
            for row in found
        }

    def note_alone(self, suspect: Suspect) -> None:
        """Note that a suspect is about to be worked on with no other message beside it."""
        with self._database.writing_in_steps() as connection:
            connection.execute(
                update(suspects)
                .where(suspects.c.message_id == suspect.message_id)
                .values(
                    is_alone=True, deaths_alone=suspect.deaths_alone, noted_at=datetime.now(UTC)
                )
            )

    def forget(self, message_ids: Iterable[str]) -> None:
        """The work is done, or failed without a death."""
        ids = set(message_ids)
        if not ids:
            return
        with self._database.writing_in_steps() as connection:
            connection.execute(self._delete, {"ids": self._database.texts(ids)})


def _row(message_id: str, now: datetime) -> dict[str, object]:
    return {"message_id": message_id, "is_alone": False, "deaths_alone": 0, "noted_at": now}
