"""Makes stores show the ledger's current rows: write, look again, write again what was overtaken.

The one way in which workers, the sweeper and a rebuild write to a store. Whoever calls has marked
the products in the ledger before, so that a write which is cut off, or lands late, is noticed.
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
    """What is needed of the ledger; see ``Ledger``."""

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]: ...

    def rows(self, product_ids: Collection[str]) -> dict[str, ProductRow]: ...


class WritableStore(Protocol):
    """What is needed of a store; see ``ProductStore``."""

    name: str

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]: ...


class Call(Protocol):
    """Runs an action on a part, named: ``Breakers.call``, which waits while it is down, or
    ``call_once``.
    """

    def __call__(self, part: str, action: Callable[[], T], /) -> T: ...


def call_once(_part: str, action: Callable[[], T]) -> T:
    """Run the action; whatever it raises is the caller's."""
    return action()


def show(
    ledger: CurrentRows,
    stores: Sequence[WritableStore],
    current: Mapping[str, ProductRow],
    call: Call,
) -> dict[str, ProductConsumerError]:
    """Write current rows until they are still current afterwards; return failures by product id.

    Without the second look, a slower writer could put the row it read back over a newer one. Raises
    what ``call`` raises for a part that is down.
    """
    failures: dict[str, ProductConsumerError] = {}
    rows = dict(current)
    if not rows:
        return failures
    for _ in range(MAX_REWRITES):
        for store in stores:
            failures |= call(store.name, partial(store.write, list(rows.values())))
        rows = newer_rows(ledger, rows, call)
        if not rows:
            return failures
    overtaken = StoreUnavailable("stores", f"overtaken {MAX_REWRITES} times")
    return dict.fromkeys(rows, overtaken) | failures


def newer_rows(
    ledger: CurrentRows, written: Mapping[str, ProductRow], call: Call
) -> dict[str, ProductRow]:
    """Return the current rows of the products that have changed since these rows were read."""
    revisions = call("ledger", lambda: ledger.revisions(written))
    changed = [key for key, row in written.items() if revisions.get(key, 0) > row.revision]
    return call("ledger", lambda: ledger.rows(changed)) if changed else {}
