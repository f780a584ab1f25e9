"""The ledger and the stores as consumer threads use them: what several ask at once is one call.

A statement for forty rows costs PostgreSQL and its client hardly more than one for ten, and the
busier the threads are the more of them share one (``benchmarks.gil`` counts calls per message).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from product_consumer.errors import ProductConsumerError
from product_consumer.ledger.in_progress import Suspect, Suspects
from product_consumer.ledger.ledger import Change, Known, Ledger, Recorded
from product_consumer.models import Embedding, Product, ProductRow
from product_consumer.pipeline.group_commit import Combiner
from product_consumer.stores.base import ProductStore

Key = TypeVar("Key")
Value = TypeVar("Value")


class CombinedLedger:
    """The methods of ``Ledger`` and ``Suspects`` that every batch calls; see there."""

    def __init__(self, ledger: Ledger, suspects: Suspects) -> None:
        self._ledger = ledger
        self._suspects = suspects
        self._look_up = Combiner("ledger", ledger.look_up)
        self._images = Combiner("ledger", self._ask_images)
        self._revisions = Combiner("ledger", self._ask_revisions)
        self._record = Combiner("ledger", self._ask_record)
        self._note = Combiner("ledger", self._ask_note)
        self._forget = Combiner("ledger", self._ask_forget)

    def look_up(self, candidates: Sequence[Product]) -> Sequence[Known]:
        """See ``Ledger.look_up``."""
        return self._look_up(candidates)

    def image_embeddings(self, sha256s: Sequence[str]) -> dict[str, Embedding]:
        """See ``Ledger.image_embeddings``."""
        return _present(sha256s, self._images(sha256s))

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]:
        """See ``Ledger.revisions``."""
        ids = list(product_ids)
        return _present(ids, self._revisions(ids))

    def rows(self, product_ids: Collection[str]) -> dict[str, ProductRow]:
        """See ``Ledger.rows``; asked for rarely, so on its own."""
        return self._ledger.rows(product_ids)

    def record(self, changes: Sequence[Change]) -> Recorded:
        """See ``Ledger.record``: one statement for the changes of all callers."""
        rows: dict[str, ProductRow] = {}
        failures: dict[int, ProductConsumerError] = {}
        for position, answer in enumerate(self._record(changes)):
            if isinstance(answer, ProductRow):
                rows[answer.id] = answer
            elif answer is not None:
                failures[position] = answer
        return Recorded(rows, failures)

    def note(self, message_ids: Sequence[str]) -> dict[str, Suspect]:
        """See ``Suspects.note``."""
        return _present(message_ids, self._note(message_ids))

    def forget(self, message_ids: Sequence[str]) -> None:
        """See ``Suspects.forget``."""
        self._forget(message_ids)

    def _ask_images(self, sha256s: Sequence[str]) -> list[Embedding | None]:
        return list(map(self._ledger.image_embeddings(sha256s).get, sha256s))

    def _ask_revisions(self, product_ids: Sequence[str]) -> list[int | None]:
        return list(map(self._ledger.revisions(product_ids).get, product_ids))

    def _ask_record(
        self, changes: Sequence[Change]
    ) -> list[ProductRow | ProductConsumerError | None]:
        recorded = self._ledger.record(changes)
        return [
            recorded.failures.get(position) or recorded.rows.get(change.product.id)
            for position, change in enumerate(changes)
        ]

    def _ask_note(self, message_ids: Sequence[str]) -> list[Suspect | None]:
        return list(map(self._suspects.note(message_ids).get, message_ids))

    def _ask_forget(self, message_ids: Sequence[str]) -> list[None]:
        self._suspects.forget(message_ids)
        return [None] * len(message_ids)


class CombinedStore:
    """The part of a ``ProductStore`` that every batch calls; see there."""

    def __init__(self, store: ProductStore) -> None:
        self.name = store.name
        self._store = store
        self._write = Combiner(store.name, self._ask_write)

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """See ``ProductStore.write``: one request for the rows of all callers."""
        return _present([row.id for row in rows], self._write(rows))

    def _ask_write(self, rows: Sequence[ProductRow]) -> list[ProductConsumerError | None]:
        newest: dict[str, ProductRow] = {}
        for row in rows:
            # Two threads may have read the same product back; a request holds it once.
            if row.id not in newest or newest[row.id].revision < row.revision:
                newest[row.id] = row
        failures = self._store.write(list(newest.values()))
        return [failures.get(row.id) for row in rows]


def _present(keys: Iterable[Key], values: Iterable[Value | None]) -> dict[Key, Value]:
    pairs = zip(keys, values, strict=True)
    return {key: value for key, value in pairs if value is not None}
