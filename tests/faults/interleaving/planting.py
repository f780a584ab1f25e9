"""Bugs that the tests beside this must find: each is the part's code less one precaution."""

from collections.abc import Mapping, Sequence

from sqlalchemy import update

from data_management import ProductPipeline
from product_consumer.ledger.ledger import Change, Ledger, Recorded
from product_consumer.ledger.pending_checks import DueMark, LedgerMarks
from product_consumer.ledger.tables import products
from product_consumer.models import Product, ProductRow
from product_consumer.outcomes import Stored
from product_consumer.products.item import Work


class ChecksThenWrites(ProductPipeline):
    """Asks the ledger whether the message is newer, writes the message, and records it last."""

    def store(self, ready: list[Work]) -> None:
        current = [work.product for work in ready if work.product is not None]
        known = zip(ready, self._ledger.look_up(current), strict=True)
        newer = [work for work, found in known if not found.is_outdated]
        revisions = self._ledger.revisions([work.product.id for work in newer if work.product])
        for store in self._stores:
            store.write([_as_row(work, revisions) for work in newer])
        self._ledger.record([Change(one, work.embeddings) for one, work in _products(ready)])
        for product, work in _products(ready):
            work.outcome = Stored(product.id)


class AcknowledgesStale(ProductPipeline):
    """Acknowledges what the ledger has already, without writing it anywhere."""

    def look_up(self, valid: list[Work]) -> tuple[list[Work], list[Work]]:
        complete, incomplete = super().look_up(valid)
        for product, work in _products(complete):
            if not product.deleted:
                work.outcome = Stored(product.id)
        return [work for work in complete if work.outcome is None], incomplete


class UnmarkedLedger(Ledger):
    """Leaves no mark."""

    def record(self, changes: Sequence[Change]) -> Recorded:
        recorded = super().record(changes)
        with self.database.writing() as connection:
            connection.execute(update(products).values(check_after=None))
        return recorded


class ClearsBlindly(LedgerMarks):
    """Clears what was checked, also when a writer has marked it again meanwhile."""

    def clear(self, checked: Sequence[DueMark]) -> None:
        ids = [mark.product_id for mark in checked]
        with self._database.writing() as connection:
            connection.execute(
                update(products).where(products.c.id.in_(ids)).values(check_after=None)
            )


def never_newer(*_arguments: object) -> dict[str, ProductRow]:
    """In place of ``showing.newer_rows``: what was written is taken to be current still."""
    return {}


def _products(works: Sequence[Work]) -> list[tuple[Product, Work]]:
    return [(work.product, work) for work in works if work.product is not None]


def _as_row(work: Work, revisions: Mapping[str, int]) -> ProductRow:
    product = work.product
    if product is None:
        raise TypeError("not validated")
    return ProductRow(
        id=product.id,
        revision=revisions.get(product.id, 0) + 1,
        deleted=product.deleted,
        name=product.name,
        store_url=product.store_url,
        price_minor=product.price_minor,
        currency=product.currency,
        rating=product.rating,
        reviews_count=product.reviews_count,
        image_url=product.image_url,
        last_update=product.observed_at,
        embeddings=work.embeddings,
    )
