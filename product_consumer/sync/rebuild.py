"""Fills a store from the ledger alone, beside running workers; a killed rebuild goes on."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.pending_checks import PendingChecks
from product_consumer.ledger.scan import LedgerScan
from product_consumer.models import ProductRow
from product_consumer.stores.base import ProductStore
from product_consumer.sync.writer import Call, write_current

T = TypeVar("T")

PAGE_SIZE = 100
"""Products per write: with three vectors of 768 numbers, about a megabyte."""

MAX_REPORTED_FAILURES = 10


@dataclass(slots=True)
class RebuildResult:
    """What a rebuild has done so far. ``failures``: the first products that the store does not
    show as it should, and why.
    """

    total: int
    checked: int = 0
    written: int = 0
    failed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    is_complete: bool = False


class Rebuild:
    """One walk over the ledger in id order.

    Every page is marked before it is written, so that the sweeper checks it later like any other
    write, and read back afterwards. The position of the last finished page is kept in the ledger.
    Pages before it are compared and only what differs is written: the store may be another one by
    now, or may have been emptied again.
    """

    def __init__(
        self,
        ledger: Ledger,
        marks: PendingChecks,
        pages: LedgerScan,
        store: ProductStore,
        call: Call,
        *,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._ledger = ledger
        self._marks = marks
        self._pages = pages
        self._store = store
        self._call = call
        self._page_size = page_size

    def run(
        self,
        stopping: threading.Event,
        on_progress: Callable[[RebuildResult], None] = lambda _result: None,
        *,
        from_start: bool = False,
    ) -> RebuildResult:
        """Write every product, or stop after a page; ``on_progress`` is called after each page.

        ``from_start`` forgets where an earlier rebuild was stopped and writes everything. Raises
        ``Unavailable`` or ``ConfigurationError`` for a part that stays down.
        """
        if from_start:
            self._on_ledger(lambda: self._pages.clear_position(self._store.name))
        written_until = self._on_ledger(lambda: self._pages.position(self._store.name)) or ""
        result = RebuildResult(total=self._on_ledger(self._pages.count))
        last_id = ""
        while not stopping.is_set():
            page = self._next_page(last_id)
            if not page:
                self._on_ledger(lambda: self._pages.clear_position(self._store.name))
                result.is_complete = True
                break
            last_id = page[-1]
            self._do_page(page, result, compare=last_id <= written_until)
            if last_id > written_until:
                self._keep_position(last_id)
            on_progress(result)
        return result

    def _next_page(self, last_id: str) -> list[str]:
        return self._on_ledger(lambda: self._pages.ids_after(last_id, self._page_size))

    def _keep_position(self, last_id: str) -> None:
        self._on_ledger(lambda: self._pages.save_position(self._store.name, last_id))

    def _do_page(self, page: Sequence[str], result: RebuildResult, *, compare: bool) -> None:
        rows = self._on_ledger(lambda: self._ledger.rows(page))
        if compare:
            wrong = self._not_shown(rows)
            rows = {key: row for key, row in rows.items() if key in wrong}
        if rows:
            self._on_ledger(lambda: self._marks.add(rows, datetime.now(UTC)))
            refused = write_current(self._ledger, [self._store], rows, self._call)
            problems = self._not_shown(rows) | {key: str(error) for key, error in refused.items()}
            result.written += len(rows) - len(problems)
            result.failed += len(problems)
            room = MAX_REPORTED_FAILURES - len(result.failures)
            result.failures |= dict(list(problems.items())[:room])
        result.checked += len(page)

    def _not_shown(self, rows: Mapping[str, ProductRow]) -> dict[str, str]:
        """Rows that are still the ledger's current ones and that the store does not show."""
        shown = self._call(self._store.name, lambda: self._store.read_revisions(list(rows)))
        # Asked after the store: what a worker has recorded meanwhile is that worker's to show.
        current = self._on_ledger(lambda: self._ledger.revisions(rows))
        return {
            key: f"the ledger has revision {row.revision}, the store shows {shown.get(key)}"
            for key, row in rows.items()
            if current.get(key) == row.revision
            and shown.get(key) != (None if row.deleted else row.revision)
        }

    def _on_ledger(self, action: Callable[[], T]) -> T:
        return self._call("ledger", action)
