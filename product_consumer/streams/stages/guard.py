"""The crash guard of a stage: a picture may crash a decoder or the device that embeds it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from product_consumer.database.connection import Database
from product_consumer.ledger.crash_guard import CrashGuard
from product_consumer.ledger.in_progress import CrashSuspect, InProgress
from product_consumer.ledger.tables import create_tables, suspects
from product_consumer.models import Message
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext
from product_consumer.pipeline.group_commit import GroupCommit
from product_consumer.streams.stages.base import LEDGER, Items, StageBatch
from product_consumer.streams.stages.item import StageItem


class StageGuard:
    """Finds the message that kills its process, for one stage on one queue. Thread-safe.

    Raises what ``Breakers.call`` raises.
    """

    def __init__(
        self, database: Database, context: ProcessContext, *, stage: str, queue_name: str
    ) -> None:
        self._database = database
        self._place = f"{stage}\n{queue_name}\n"
        table = _SharedInProgress(InProgress(database), self._probe, context)
        self._table = table
        self._guard: CrashGuard[StageItem] = CrashGuard(table, self._name_of)

    def setup(self) -> None:
        """Create the tables that are missing; safe when several processes start together."""
        with self._database.setting_up() as connection:
            create_tables(connection)

    def run(self, batch: StageBatch, items: Items, step: Callable[..., Items]) -> Items:
        """Run a step that may crash the process; see ``CrashGuard.run``."""
        return self._guard.run(batch, items, step) if items else []

    def wait_until_ready(self) -> bool:
        """Block while the table cannot be written; False when asked to stop."""
        return self._table.breakers.wait_until_closed()

    def leave(self) -> None:
        """Record that this process ends, and not because of a message; waits for no breaker."""
        self._table.in_progress.leave()

    def _name_of(self, message: Message) -> str:
        # The id is a producer's: any text, and the same in several queues.
        place = f"{self._place}{message.message_id}".encode("utf-8", "replace")
        return f"stage:{hashlib.sha256(place).hexdigest()}"

    def _probe(self) -> None:
        with self._database.rehearsing() as connection:
            connection.execute(suspects.delete().where(suspects.c.message_id == " "))


class _SharedInProgress:
    """The table of messages in progress as the threads of a worker share it."""

    def __init__(
        self, in_progress: InProgress, probe: Callable[[], None], context: ProcessContext
    ) -> None:
        self.in_progress = in_progress
        self.breakers = Breakers({LEDGER: probe}, context)
        guarded = partial(self.breakers.guarded, LEDGER, "note")
        self._start = guarded(GroupCommit(LEDGER, self._ask_start))
        self._finish = guarded(GroupCommit(LEDGER, self._ask_finish))
        self._start_alone = guarded(in_progress.start_alone)

    def start(self, message_ids: Sequence[str]) -> Mapping[str, CrashSuspect]:
        found = zip(message_ids, self._start(message_ids), strict=True)
        return {name: suspect for name, suspect in found if suspect is not None}

    def start_alone(self, suspect: CrashSuspect) -> None:
        self._start_alone(suspect)

    def finish(self, message_ids: Sequence[str]) -> None:
        self._finish(message_ids)

    def _ask_start(self, message_ids: Sequence[str]) -> Sequence[CrashSuspect | None]:
        suspects = self.in_progress.start(message_ids)
        return [suspects.get(message_id) for message_id in message_ids]

    def _ask_finish(self, message_ids: Sequence[str]) -> Sequence[None]:
        self.in_progress.finish(message_ids)
        return [None] * len(message_ids)
