"""Fills a store from the ledger alone, beside running workers; a killed rebuild is resumed."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
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
    """The progress of a rebuild, in products."""

    total: int
    checked: int = 0
    written: int = 0
    failed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """Why the first ``MAX_REPORTED_FAILURES`` products failed, by id."""
    is_complete: bool = False


class Rebuild:
    """One scan of the ledger in id order that writes every product to one store.

    Each page gets pending checks before it is written, so that the sweeper checks it later like any
    other write. Afterwards the page is read back. The position of the last finished page is kept in
    the ledger. A later rebuild compares the pages before it and writes only products that differ:
    the store may be a new one by now, or emptied again.
    """

    def __init__(
        self,
        ledger: Ledger,
        checks: PendingChecks,
        scan: LedgerScan,
        store: ProductStore,
        call: Call,
        *,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._ledger = ledger
        self._checks = checks
        self._scan = scan
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

        ``from_start`` clears the position of an earlier rebuild and writes everything. Raises
        ``Unavailable`` or ``ConfigurationError`` for a dependency that stays down.
        """
        if from_start:
            self._on_ledger(lambda: self._scan.clear_position(self._store.name), "write")
        written_until = self._on_ledger(lambda: self._scan.position(self._store.name)) or ""
        result = RebuildResult(total=self._on_ledger(self._scan.count))
        last_id = ""
        while not stopping.is_set():
            page = self._next_page(last_id)
            if not page:
                self._on_ledger(lambda: self._scan.clear_position(self._store.name), "write")
                result.is_complete = True
                break
            last_id = page[-1]
            self._write_page(page, result, compare=last_id <= written_until)
            if last_id > written_until:
                self._save_position(last_id)
            on_progress(result)
        return result

    def _next_page(self, last_id: str) -> list[str]:
        return self._on_ledger(lambda: self._scan.ids_after(last_id, self._page_size))

    def _save_position(self, last_id: str) -> None:
        self._on_ledger(lambda: self._scan.save_position(self._store.name, last_id), "write")

    def _write_page(self, page: Sequence[str], result: RebuildResult, *, compare: bool) -> None:
        """Write a page and read it back; with ``compare`` only the products that differ."""
        rows = self._on_ledger(lambda: self._ledger.rows(page))
        if compare:
            different = self._differences(rows)
            rows = {key: row for key, row in rows.items() if key in different}
        if rows:
            self._on_ledger(lambda: self._checks.add(rows, datetime.now(UTC)), "write")
            refused = write_current(self._ledger, [self._store], rows, self._call)
            problems = self._differences(rows) | {key: str(error) for key, error in refused.items()}
            result.written += len(rows) - len(problems)
            result.failed += len(problems)
            room = MAX_REPORTED_FAILURES - len(result.failures)
            result.failures |= dict(list(problems.items())[:room])
        result.checked += len(page)

    def _differences(self, rows: Mapping[str, ProductRow]) -> dict[str, str]:
        """Say by id how the store differs from the rows that are still current in the ledger."""
        read = partial(self._store.read_revisions, list(rows))
        stored = self._call(self._store.name, "read", read)
        # Read after the store: a worker that has recorded a newer row meanwhile writes it itself.
        current = self._on_ledger(lambda: self._ledger.revisions(rows))
        return {
            key: f"the ledger has revision {row.revision}, the store has {stored.get(key)}"
            for key, row in rows.items()
            if current.get(key) == row.revision
            and stored.get(key) != (None if row.deleted else row.revision)
        }

    def _on_ledger(self, action: Callable[[], T], operation: str = "read") -> T:
        return self._call("ledger", operation, action)
