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
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from product_consumer.errors import RejectMessage
from product_consumer.ledger_database import Database
from product_consumer.ledger_schema import suspects

MAX_DEATHS_ALONE = 2

_FORGET = delete(suspects).where(suspects.c.message_id.in_(bindparam("ids", expanding=True)))


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
    def _note(self) -> Any:
        insert = self._database.insert(suspects).on_conflict_do_nothing()
        return insert.returning(suspects.c.message_id)

    def note(self, message_ids: Collection[str]) -> dict[str, Suspect]:
        """Note messages about to be worked on together, except suspects, which it returns."""
        if not message_ids:
            return {}
        now = datetime.now(UTC)
        rows = [_row(message_id, now) for message_id in sorted(set(message_ids))]
        with self._database.writing() as connection:
            noted = connection.execute(self._note, rows)
            left_behind = set(message_ids) - set(noted.scalars())
            if not left_behind:
                return {}
            found = connection.execute(
                select(suspects).where(suspects.c.message_id.in_(left_behind))
            ).all()
        return {
            row.message_id: Suspect(row.message_id, row.deaths_alone + int(row.is_alone))
            for row in found
        }

    def note_alone(self, suspect: Suspect) -> None:
        """Note that a suspect is about to be worked on with no other message beside it."""
        with self._database.writing() as connection:
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
        with self._database.writing() as connection:
            connection.execute(_FORGET, {"ids": list(ids)})


def _row(message_id: str, now: datetime) -> dict[str, object]:
    return {"message_id": message_id, "is_alone": False, "deaths_alone": 0, "noted_at": now}
