"""Reuse of embeddings that the ledger has: a change of the price alone costs no forward pass."""

from typing import TYPE_CHECKING

from product_consumer.models import Embeddings
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.context import ProcessContext
from product_consumer.products.item import ProductItem
from product_consumer.products.shared_stores import SharedLedger
from product_consumer.vectors import Embedding

if TYPE_CHECKING:
    # It loads torch, which takes seconds and which a worker for orders alone does without.
    from product_consumer.embedding.embedder import Embedder


class EmbeddingReuse:
    """The known embeddings of images and names, made by the model in use. Thread-safe.

    Equal bytes have equal embeddings, whatever their URL and process. Raises the ledger's errors.
    """

    def __init__(self, ledger: SharedLedger, embedder: "Embedder", context: ProcessContext) -> None:
        self._ledger = ledger
        self._embedder = embedder
        self._metrics = context.metrics

    def split(
        self, batch: Batch[ProductItem], fetched: list[ProductItem]
    ) -> tuple[list[ProductItem], list[ProductItem]]:
        """Return the items that have all their embeddings now, and those that need the model."""
        with batch.stage("reuse"):
            digests = [item.new_digest for item in fetched if item.new_digest is not None]
            by_digest = self._ledger.image_embeddings(digests)
            images = [item.image_embedding(by_digest) for item in fetched]
            going_on = batch.accept("reuse", fetched, images, self._take)
        known = [item for item in going_on if item.embeddings is not None]
        return known, [item for item in going_on if item.embeddings is None]

    def _take(self, item: ProductItem, image: Embedding | None) -> None:
        if image is not None:
            item.embeddings = Embeddings(self._text_embedding(item), image)
            self._metrics.count_flags(("vectors_reused",))

    def _text_embedding(self, item: ProductItem) -> Embedding:
        name = item.product.name
        if item.known is not None and item.known.name == name:
            return item.known.embeddings.text
        return self._embedder.embed_text(name)
