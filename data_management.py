"""What happens to a product message, from the queue to every store, failures included.

    receive -> validate -> look up -> fetch image -> reuse or embed -> store -> acknowledge

``Consumer`` (``product_consumer/pipeline/consumer.py``) is the loop of every stream: it receives
messages, hands them to a pipeline, and settles each by its outcome, exactly once and last.
``ProductPipeline`` is the work in between. An error becomes an outcome in one place,
``product_consumer/pipeline/error_policy.py``.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from product_consumer.images.decoder import ImageDecoder
from product_consumer.images.fetcher import ImageFetcher
from product_consumer.ledger.crash_guard import CrashGuard
from product_consumer.models import Message, Product
from product_consumer.outcomes import Outcome, Stored
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.consumer import Consumer
from product_consumer.pipeline.context import ProcessContext
from product_consumer.products.embedding_reuse import EmbeddingReuse
from product_consumer.products.item import ProductItem
from product_consumer.products.parser import ProductParser
from product_consumer.products.shared_stores import SharedStores
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.sync.writer import write_current

if TYPE_CHECKING:
    # It loads torch, which takes seconds and which a worker for orders alone does without.
    from product_consumer.embedding.embedder import Embedder

__all__ = ["Consumer", "Items", "ProductBatch", "ProductPipeline"]

Items = list[ProductItem]
ProductBatch = Batch[ProductItem]


class ProductPipeline:
    """The steps of product messages: validate, look up, fetch the image, embed, store.

    Each step takes items and returns those that go on; an error settles its own item and spares the
    others. Any thread may call it.
    """

    def __init__(
        self,
        parser: ProductParser,
        fetcher: ImageFetcher,
        decoder: ImageDecoder,
        embedder: "Embedder",
        shared: SharedStores,
        in_flight: InFlightTracker,
        context: ProcessContext,
        *,
        max_attempts: int,
        on_stored: Callable[[Product], None] = lambda _product: None,
    ) -> None:
        """``on_stored``: told of every product that all stores have; neither blocks nor raises."""
        self._parser = parser
        self._fetcher = fetcher
        self._decoder = decoder
        self._embedder = embedder
        self._ledger, self._stores, self._breakers = shared.ledger, shared.stores, shared.breakers
        self._reuse = EmbeddingReuse(shared.ledger, embedder, context)
        self._crash_guard: CrashGuard[ProductItem] = CrashGuard(shared.ledger)
        self._in_flight = in_flight
        self._context = context
        self._max_attempts = max_attempts
        self._on_stored = on_stored

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order; raises ``FatalError`` only."""
        items = map(ProductItem, messages)
        with Batch(items, self._context, max_attempts=self._max_attempts) as batch:
            valid = self.validate(batch)
            current, changed = self.look_up(batch, valid)
            fetched = self.fetch_images(batch, changed)
            reused, new = self._reuse.split(batch, fetched)
            embedded = self._crash_guard.run(batch, new, self.embed)
            self.store(batch, current + reused + embedded)
        return batch.outcomes()

    def wait_until_ready(self) -> bool:
        """Block while the ledger or a store is down; False when asked to stop."""
        return self._breakers.wait_until_closed()

    def validate(self, batch: ProductBatch) -> Items:
        """Turn message bodies into products."""
        with batch.stage("validate"):
            return batch.each("validate", batch.items, self._parse)

    def look_up(self, batch: ProductBatch, valid: Items) -> tuple[Items, Items]:
        """Split the items: those that can be stored at once, and those that need an image first.

        A tombstone has no image. A message changes only history if the ledger has it already, or
        has a newer one; it rewrites the current row, whose embeddings are known. So a second
        delivery costs neither a download nor a forward pass.
        """
        with batch.stage("look_up"):
            known = self._ledger.look_up([item.product for item in valid])
            going_on = batch.accept("look_up", valid, known, ProductItem.take_known)
        current = [item for item in going_on if not item.needs_image]
        return current, [item for item in going_on if item.needs_image]

    def fetch_images(self, batch: ProductBatch, changed: Items) -> Items:
        """Download the images of a batch in parallel; a known image only if it has changed."""
        with batch.stage("fetch_image"):
            images = self._fetcher.fetch_all([item.image_request() for item in changed])
            return batch.accept("fetch_image", changed, images, ProductItem.take_image)

    def embed(self, batch: ProductBatch, new: Items, *, alone: bool = False) -> Items:
        """Decode and tokenise in this thread, so that the model never waits for it; then embed.

        The forward pass carries the items of other threads, too, unless ``alone``.
        """
        with batch.stage("prepare"):
            # All names first: between images the caches are cold, and a name takes 5 times as long.
            named = batch.each("prepare", new, self._tokenise)
            prepared = batch.each("prepare", named, self._preprocess)
        with batch.stage("embed"):
            ready = [item.prepared for item in prepared if item.prepared is not None]
            embeddings = self._embedder.embed(ready, alone=alone)
            return batch.accept("embed", prepared, embeddings, ProductItem.take_embeddings)

    def store(self, batch: ProductBatch, ready: Items) -> None:
        """Record the batch in the ledger, then write the current rows to every store.

        A row that was overtaken meanwhile is written again: the stores end with the newest.
        """
        held = batch.release_lost(ready, self._in_flight.is_held)
        with batch.stage("ledger"):
            recorded = self._ledger.record([item.change() for item in held])
            batch.fail("ledger", held, recorded.failures)
        with batch.stage("stores"):
            failures = write_current(self._ledger, self._stores, recorded.rows)
        for item in batch.undecided(held):
            failure = failures.get(item.product.id)
            if failure is not None:
                batch.settle(item, "store", failure)
            else:
                item.outcome = Stored(item.product.id)
                self._on_stored(item.product)

    def _parse(self, item: ProductItem) -> None:
        item.product = self._parser.parse(item.message)
        self._context.metrics.count_flags(item.product.flags)

    def _tokenise(self, item: ProductItem) -> None:
        item.tokens = self._embedder.tokenise(item.product.name)

    def _preprocess(self, item: ProductItem) -> None:
        pixels = self._decoder.decode(item.image_bytes, self._embedder.shorter_side_pixels)
        item.prepared = self._embedder.prepare(pixels, item.tokens)
        item.image_bytes = b""
