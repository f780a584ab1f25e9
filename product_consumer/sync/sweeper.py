"""Reads the stores back a repair horizon after each write, and repairs those that differ.

A crash may cut a write off. A write to Milvus may land after its worker gave up or died. So every
write leaves a pending check in the ledger. Once no write can be on its way any more, the sweeper
compares the stores with the ledger. If all are equal, it clears the check. If not, it writes the
ledger's current row and leaves the check, a horizon later. So a repair is itself checked, and the
check that clears always comes after the last write. Every worker runs a sweeper; they share the
work.
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
"""How long a stop waits for a sweep; a sweep that is cut off is done again a horizon later."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The result of a sweep, in products."""

    checked: int
    """Products that were due."""
    repaired: int
    """Those of them that were written to a store again."""


def open_sweeper(
    settings: Settings, ledger: Ledger, stores: Sequence[ProductStore], context: ProcessContext
) -> AbstractContextManager[None]:
    """Return a context in which a thread sweeps; the process watches it like its other threads."""
    horizon_seconds = settings.repair_horizon_seconds
    checks = PendingChecks(ledger.database, repair_horizon_seconds=horizon_seconds)
    context.metrics.watch_pending_checks(checks.count)
    sweeper = Sweeper(ledger, checks, stores, repair_horizon_seconds=horizon_seconds)
    return sweeper.running(context.stopping, lambda: context.stages.enter("sweep"))


class Sweeper:
    """Compares products that are due for a check with every store. Not thread-safe: one thread of a
    process runs it.
    """

    def __init__(
        self,
        ledger: Ledger,
        checks: PendingChecks,
        stores: Sequence[ProductStore],
        *,
        repair_horizon_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._checks = checks
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

        The thread calls ``touch`` before every sweep and every call to a dependency. It waits at
        most ``MAX_PAUSE_SECONDS`` between two sweeps.
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
        """Sweep until stopped. An outage or a bug here is logged; the worker goes on."""
        while not stopping.is_set():
            self._touch()
            try:
                self._sweep_series(stopping)
            except (Unavailable, ConfigurationError) as error:
                self._log_failure("The sweeper has to wait: %s", error)
                self._backoff.wait(stopping)
            except Exception as error:
                self._log_failure("The sweeper failed and goes on", exc_info=error)
                self._backoff.wait(stopping)
            else:
                self._is_failing = False
                self._backoff.reset()
                stopping.wait(self._pause_seconds)

    def sweep_once(self, now: datetime | None = None) -> SweepResult:
        """Check up to ``BATCH_SIZE`` products that are due at ``now`` (default: the present).

        While a store is down, the products keep their pending checks and the other stores are still
        compared; then the store's error is raised.
        """
        self._touch()
        due = self._checks.claim(now or datetime.now(UTC), BATCH_SIZE)
        unconfirmed: set[str] = set()
        repaired: set[str] = set()
        outage: Unavailable | ConfigurationError | None = None
        for store in self._stores if due else ():
            try:
                self._touch()
                different = _differing(store, due)
                unconfirmed.update(different)
                repaired.update(self._repair(store, different))
            except (Unavailable, ConfigurationError) as error:
                unconfirmed.update(check.product_id for check in due)
                outage = error
        confirmed = [check for check in due if check.product_id not in unconfirmed]
        if confirmed:
            self._checks.clear(confirmed)
        if outage is not None:
            raise outage
        return SweepResult(len(due), len(repaired))

    def _sweep_series(self, stopping: threading.Event) -> None:
        """Sweep until less than a batch was due; log the repairs of the series in one line."""
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
        """Write the current rows, which may be newer than the compared ones; return their ids."""
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

    def _call(self, dependency: str, operation: str, action: Callable[[], T]) -> T:
        self._touch()
        return call_once(dependency, operation, action)

    def _log_failure(
        self, text: str, *arguments: object, exc_info: Exception | None = None
    ) -> None:
        """Warn when a series of failures begins; log the repetitions for debugging only."""
        level = logging.DEBUG if self._is_failing else logging.WARNING
        self._is_failing = True
        log.log(level, text, *arguments, exc_info=exc_info)


def _differing(store: ProductStore, due: Sequence[DueCheck]) -> list[str]:
    """Products that the store has in another revision, lacks, or has although they are deleted."""
    revisions = store.read_revisions([check.product_id for check in due])
    return [
        check.product_id
        for check in due
        if revisions.get(check.product_id) != (None if check.deleted else check.revision)
    ]
