"""Reads back what was written a repair horizon ago, and repairs what a store does not show.

A write may be cut off by a crash, and one to Milvus may land after its worker gave up or died. So
every write leaves a mark in the ledger, and once nothing of it can be on its way any more, the
sweeper compares the stores with the ledger: equal everywhere clears the mark; anything else leaves
it, pushed forward, and writes the ledger's current row. So a repair is itself checked later, and
the clearing look always comes after the last write. Every worker runs one; they share the work.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from product_consumer.errors import ConfigurationError, Unavailable
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.pending_checks import DueCheck, PendingChecks
from product_consumer.pipeline.backoff import Backoff
from product_consumer.pipeline.context import ProcessContext
from product_consumer.settings import Settings
from product_consumer.stores.base import ProductStore
from product_consumer.sync.writer import call_once, write_current

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_SIZE = 100
"""Products of one sweep: one query to each store."""

MAX_PAUSE_SECONDS = 60.0
"""Longest wait between two sweeps that failed."""

JOIN_SECONDS = 3.0
"""How long a stop waits for a sweep; one that is cut off is done again a horizon later."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Products that were due, and those of them that some store did not show and was given."""

    checked: int
    repaired: int


def open_sweeper(
    settings: Settings, ledger: Ledger, stores: Sequence[ProductStore], context: ProcessContext
) -> AbstractContextManager[None]:
    """Return a context in which a thread sweeps, watched and counted as all others."""
    horizon_seconds = settings.repair_horizon_seconds
    marks = PendingChecks(ledger.database, repair_horizon_seconds=horizon_seconds)
    context.metrics.watch_pending_checks(marks.count)
    sweeper = Sweeper(ledger, marks, stores, repair_horizon_seconds=horizon_seconds)
    return sweeper.running(context.stopping, lambda: context.stages.enter("sweep"))


class Sweeper:
    """Checks marked products against every store. One thread of a process runs it."""

    def __init__(
        self,
        ledger: Ledger,
        marks: PendingChecks,
        stores: Sequence[ProductStore],
        *,
        repair_horizon_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._marks = marks
        self._stores = stores
        self._pause_seconds = min(repair_horizon_seconds / 4, 30.0)
        self._backoff = Backoff(1.0, MAX_PAUSE_SECONDS)
        self._touch: Callable[[], None] = lambda: None
        self._is_failing = False

    @contextmanager
    def running(
        self, stopping: threading.Event, touch: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Sweep in a thread of its own during the block, which ends with ``stopping`` set.

        The thread calls ``touch`` before every sweep and every call to a dependency; between two of
        them it waits ``MAX_PAUSE_SECONDS`` at most.
        """
        self._touch = touch or self._touch
        thread = threading.Thread(target=self.run, args=(stopping,), name="sweeper", daemon=True)
        thread.start()
        try:
            yield
        finally:
            if stopping.is_set():
                thread.join(JOIN_SECONDS)

    def run(self, stopping: threading.Event) -> None:
        """Sweep until stopped. An outage or a bug here is logged and costs the worker nothing."""
        while not stopping.is_set():
            self._touch()
            try:
                self._sweep_series(stopping)
            except (Unavailable, ConfigurationError) as error:
                self._note_failure("The sweeper has to wait: %s", error)
                self._backoff.wait(stopping)
            except Exception as error:
                self._note_failure("The sweeper failed and goes on", exc_info=error)
                self._backoff.wait(stopping)
            else:
                self._is_failing = False
                self._backoff.reset()
                stopping.wait(self._pause_seconds)

    def sweep_once(self, now: datetime | None = None) -> SweepResult:
        """Check up to ``BATCH_SIZE`` products that are due at ``now`` (default: the present).

        A store that is down keeps its products marked and the other stores are still checked; then
        what it raised is raised.
        """
        self._touch()
        due = self._marks.claim(now or datetime.now(UTC), BATCH_SIZE)
        doubtful: set[str] = set()
        repaired: set[str] = set()
        outage: Unavailable | ConfigurationError | None = None
        for store in self._stores if due else ():
            try:
                self._touch()
                different = _differing(store, due)
                doubtful.update(different)
                repaired.update(self._repair(store, different))
            except (Unavailable, ConfigurationError) as error:
                doubtful.update(mark.product_id for mark in due)
                outage = error
        confirmed = [mark for mark in due if mark.product_id not in doubtful]
        if confirmed:
            self._marks.clear(confirmed)
        if outage is not None:
            raise outage
        return SweepResult(len(due), len(repaired))

    def _sweep_series(self, stopping: threading.Event) -> None:
        """Sweep until less than a batch was due; report the repairs of all of them in one line."""
        checked = repaired = 0
        try:
            while not stopping.is_set():
                result = self.sweep_once()
                checked += result.checked
                repaired += result.repaired
                if result.checked < BATCH_SIZE:
                    return
        finally:
            if repaired:
                log.warning("The sweeper checked %d products and repaired %d", checked, repaired)

    def _repair(self, store: ProductStore, product_ids: Sequence[str]) -> list[str]:
        """Show the current rows, which may be newer than those that were compared."""
        if not product_ids:
            return []
        rows = self._ledger.rows(product_ids)
        failures = write_current(self._ledger, [store], rows, self._call)
        for product_id, error in list(failures.items())[:1]:
            log.warning(
                "%s keeps refusing %d products, the first is %s: %s",
                *(store.name, len(failures), product_id, error),
            )
        return [product_id for product_id in rows if product_id not in failures]

    def _call(self, part: str, action: Callable[[], T]) -> T:
        self._touch()
        return call_once(part, action)

    def _note_failure(
        self, text: str, *arguments: object, exc_info: Exception | None = None
    ) -> None:
        """One line when a series of failures begins; the repetitions are for debugging."""
        level = logging.DEBUG if self._is_failing else logging.WARNING
        self._is_failing = True
        log.log(level, text, *arguments, exc_info=exc_info)


def _differing(store: ProductStore, due: Sequence[DueCheck]) -> list[str]:
    """Products that the store shows in another revision, not at all, or although deleted."""
    shown = store.read_revisions([mark.product_id for mark in due])
    return [
        mark.product_id
        for mark in due
        if shown.get(mark.product_id) != (None if mark.deleted else mark.revision)
    ]
