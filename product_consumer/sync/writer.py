"""Writes the ledger's current rows to stores, and writes rows again that were overtaken meanwhile.

Workers, the sweeper and a rebuild write to a store in this way only. The caller has set a pending
check for the products before, so that a write that is cut off, or lands late, is noticed.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from product_consumer.errors import ProductConsumerError, StoreUnavailable
from product_consumer.models import ProductRow

T = TypeVar("T")

MAX_REWRITES = 5
"""Times a row is written again because another worker recorded a newer one meanwhile."""


class CurrentRows(Protocol):
    """The methods of ``Ledger`` that are needed here."""

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]: ...

    def rows(self, product_ids: Collection[str]) -> dict[str, ProductRow]: ...


class WritableStore(Protocol):
    """The methods of ``ProductStore`` that are needed here."""

    name: str

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]: ...


class Call(Protocol):
    """Runs an action on the dependency of that name: ``Breakers.call`` or ``call_once``."""

    def __call__(self, dependency: str, operation: str, action: Callable[[], T], /) -> T: ...


def call_once(_dependency: str, _operation: str, action: Callable[[], T]) -> T:
    """Run the action and let its errors through."""
    return action()


def write_current(
    ledger: CurrentRows,
    stores: Sequence[WritableStore],
    current: Mapping[str, ProductRow],
    call: Call = call_once,
) -> dict[str, ProductConsumerError]:
    """Write current rows until they are still current afterwards; return failures by product id.

    Without reading the revisions again, a slower writer could put its older row over a newer one.
    Every call to the ledger or a store goes through ``call``, whose errors are raised.
    """
    failures: dict[str, ProductConsumerError] = {}
    rows = dict(current)
    if not rows:
        return failures
    for _ in range(MAX_REWRITES):
        for store in stores:
            failures |= call(store.name, "write", partial(store.write, list(rows.values())))
        rows = newer_rows(ledger, rows, call)
        if not rows:
            return failures
    overtaken = StoreUnavailable("stores", f"overtaken {MAX_REWRITES} times")
    return dict.fromkeys(rows, overtaken) | failures


def newer_rows(
    ledger: CurrentRows, written: Mapping[str, ProductRow], call: Call = call_once
) -> dict[str, ProductRow]:
    """Return the current rows of the products that have changed since these rows were read."""
    revisions = call("ledger", "read", lambda: ledger.revisions(written))
    changed = [key for key, row in written.items() if revisions.get(key, 0) > row.revision]
    return call("ledger", "read", lambda: ledger.rows(changed)) if changed else {}
