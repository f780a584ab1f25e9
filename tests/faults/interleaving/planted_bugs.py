"""Bugs that the explorer must find: each removes one precaution from the real code."""

from collections.abc import Mapping, Sequence

from sqlalchemy import update

from data_management import Items, ProductBatch, ProductPipeline
from product_consumer.ledger.ledger import BatchRecord, Ledger
from product_consumer.ledger.pending_checks import DueCheck, PendingChecks
from product_consumer.ledger.rows import ProductChange
from product_consumer.ledger.tables import products
from product_consumer.models import ProductRow
from product_consumer.outcomes import Stored
from product_consumer.products.item import ProductItem


class ChecksThenWrites(ProductPipeline):
    """Asks the ledger whether the message is newer, writes the message, and records it last."""

    def store(self, _batch: ProductBatch, ready: Items) -> None:
        known = zip(ready, self._ledger.look_up([item.product for item in ready]), strict=True)
        newer = [item for item, held in known if not held.is_outdated]
        revisions = self._ledger.revisions([item.product.id for item in newer])
        for store in self._stores:
            store.write([_as_row(item, revisions) for item in newer])
        self._ledger.record([ProductChange(item.product, item.embeddings) for item in ready])
        for item in ready:
            item.outcome = Stored(item.product.id)


class AcknowledgesStale(ProductPipeline):
    """Acknowledges a version that the ledger has already, without writing it to any store."""

    def look_up(self, batch: ProductBatch, valid: Items) -> tuple[Items, Items]:
        current, changed = super().look_up(batch, valid)
        for item in current:
            if not item.product.deleted:
                item.outcome = Stored(item.product.id)
        return batch.undecided(current), changed


class UncheckedLedger(Ledger):
    """Leaves no pending check."""

    def record(self, changes: Sequence[ProductChange]) -> BatchRecord:
        recorded = super().record(changes)
        with self.database.writing() as connection:
            connection.execute(update(products).values(check_after=None))
        return recorded


class ClearsBlindly(PendingChecks):
    """Clears a check also when a writer has added another for the product meanwhile."""

    def clear(self, checked: Sequence[DueCheck]) -> None:
        ids = [check.product_id for check in checked]
        with self._database.writing() as connection:
            connection.execute(
                update(products).where(products.c.id.in_(ids)).values(check_after=None)
            )


def never_newer(*_arguments: object) -> dict[str, ProductRow]:
    """Replaces ``writer.newer_rows``: claims that the written rows are still current."""
    return {}


def _as_row(item: ProductItem, revisions: Mapping[str, int]) -> ProductRow:
    product = item.product
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
        embeddings=item.embeddings,
    )
