"""The ledger and the stores as consumer threads share them: grouped, and guarded by breakers.

Calls of several threads at the same time become one call: a statement for forty rows costs
PostgreSQL and its client hardly more than a statement for ten (``benchmarks.gil`` counts calls per
message). While a dependency is down, a call waits for it as in ``Breakers.call``. A row is refused
for its own data only while its store takes a test record.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from product_consumer.errors import ProductConsumerError, is_refusal
from product_consumer.ledger.in_progress import CrashSuspect, InProgress
from product_consumer.ledger.ledger import BatchRecord, Ledger
from product_consumer.ledger.rows import LookedUp, ProductChange
from product_consumer.models import Product, ProductRow
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext
from product_consumer.pipeline.group_commit import GroupCommit
from product_consumer.stores.base import ProductStore
from product_consumer.stores.probe import probe_writing
from product_consumer.vectors import Embedding

Key = TypeVar("Key")
Value = TypeVar("Value")

LEDGER = "ledger"
"""Name of the ledger among the dependencies; the others are named by their stores."""


class SharedLedger:
    """The ledger of all consumer threads: the calls of ``Ledger`` that every batch makes.

    Thread-safe. Every method raises what ``Breakers.call`` raises.
    """

    def __init__(self, ledger: Ledger, breakers: Breakers) -> None:
        self._ledger = ledger
        self._in_progress = InProgress(ledger.database)
        guarded = partial(breakers.guarded, LEDGER)
        self._look_up = guarded("read", GroupCommit(LEDGER, ledger.look_up))
        self._images = guarded("read", GroupCommit(LEDGER, self._ask_images))
        self._revisions = guarded("read", GroupCommit(LEDGER, self._ask_revisions))
        self._record = guarded("record", GroupCommit(LEDGER, self._ask_record))
        self._start = guarded("note", GroupCommit(LEDGER, self._ask_start))
        self._finish = guarded("note", GroupCommit(LEDGER, self._ask_finish))
        self._rows = guarded("read", ledger.rows)
        self._start_alone = guarded("note", self._in_progress.start_alone)

    def look_up(self, candidates: Sequence[Product]) -> Sequence[LookedUp]:
        """Return the ledger's knowledge of each product, in order, compared with the candidate."""
        return self._look_up(candidates)

    def image_embeddings(self, sha256s: Sequence[str]) -> dict[str, Embedding]:
        """Return the embeddings that this model made of images, by SHA-256, hex."""
        return _present(sha256s, self._images(sha256s))

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]:
        """Return the current revision of each product that exists, tombstones included."""
        ids = list(product_ids)
        return _present(ids, self._revisions(ids))

    def rows(self, product_ids: Iterable[str]) -> dict[str, ProductRow]:
        """Return the current row of each product that exists; rarely called, so never grouped."""
        return self._rows(product_ids)

    def record(self, changes: Sequence[ProductChange]) -> BatchRecord:
        """Record the changes of all callers in one statement."""
        rows: dict[str, ProductRow] = {}
        failures: dict[int, ProductConsumerError] = {}
        for position, result in enumerate(self._record(changes)):
            if isinstance(result, ProductRow):
                rows[result.id] = result
            elif result is not None:
                failures[position] = result
        return BatchRecord(rows, failures)

    def start(self, message_ids: Sequence[str]) -> dict[str, CrashSuspect]:
        """Record messages as in progress, except crash suspects, which it returns by id."""
        return _present(message_ids, self._start(message_ids))

    def start_alone(self, suspect: CrashSuspect) -> None:
        """Record that a crash suspect is worked on with no other message beside it."""
        self._start_alone(suspect)

    def finish(self, message_ids: Sequence[str]) -> None:
        """Record that the process survived these messages."""
        self._finish(message_ids)

    def leave(self) -> None:
        """Record that this process ends, and not because of a message; waits for no breaker."""
        self._in_progress.leave()

    def _ask_images(self, sha256s: Sequence[str]) -> list[Embedding | None]:
        return list(map(self._ledger.image_embeddings(sha256s).get, sha256s))

    def _ask_revisions(self, product_ids: Sequence[str]) -> list[int | None]:
        return list(map(self._ledger.revisions(product_ids).get, product_ids))

    def _ask_record(
        self, changes: Sequence[ProductChange]
    ) -> list[ProductRow | ProductConsumerError | None]:
        recorded = self._ledger.record(changes)
        if any(map(is_refusal, recorded.failures.values())):
            self._ledger.probe()
        return [
            recorded.failures.get(position) or recorded.rows.get(change.product.id)
            for position, change in enumerate(changes)
        ]

    def _ask_start(self, message_ids: Sequence[str]) -> list[CrashSuspect | None]:
        return list(map(self._in_progress.start(message_ids).get, message_ids))

    def _ask_finish(self, message_ids: Sequence[str]) -> list[None]:
        self._in_progress.finish(message_ids)
        return [None] * len(message_ids)


class SharedStore:
    """A store of all consumer threads: the write of ``ProductStore``.

    Thread-safe. It raises what ``Breakers.call`` raises.
    """

    def __init__(self, store: ProductStore, breakers: Breakers, probe: Callable[[], None]) -> None:
        self.name = store.name
        self._store = store
        self._probe = probe
        writing = GroupCommit(store.name, self._ask_write)
        self._write = breakers.guarded(store.name, "write", writing)

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """Write the rows of all callers in one request; return the failures by product id."""
        return _present([row.id for row in rows], self._write(rows))

    def _ask_write(self, rows: Sequence[ProductRow]) -> list[ProductConsumerError | None]:
        newest: dict[str, ProductRow] = {}
        for row in rows:
            # Two threads may have read the same product; a request must hold it once.
            if row.id not in newest or newest[row.id].revision < row.revision:
                newest[row.id] = row
        failures = self._store.write(list(newest.values()))
        if any(map(is_refusal, failures.values())):
            self._probe()
        return [failures.get(row.id) for row in rows]


@dataclass(frozen=True, slots=True)
class SharedStores:
    """The ledger, the stores, and the breakers of all of them. Thread-safe."""

    ledger: SharedLedger
    stores: tuple[SharedStore, ...]
    breakers: Breakers


def share(ledger: Ledger, stores: Sequence[ProductStore], context: ProcessContext) -> SharedStores:
    """Return ledger and stores for the threads of one process."""
    probes = {store.name: store_probe(ledger, store) for store in stores}
    breakers = Breakers({LEDGER: ledger.probe, **probes}, context)
    shared = tuple(SharedStore(store, breakers, probes[store.name]) for store in stores)
    return SharedStores(SharedLedger(ledger, breakers), shared, breakers)


def store_probe(ledger: Ledger, store: ProductStore) -> Callable[[], None]:
    """Return a function that raises while the store would take no row of the ledger's model."""

    def probe() -> None:
        probe_writing(store, ledger.identity().dimension)

    return probe


def _present(keys: Iterable[Key], values: Iterable[Value | None]) -> dict[Key, Value]:
    pairs = zip(keys, values, strict=True)
    return {key: value for key, value in pairs if value is not None}
