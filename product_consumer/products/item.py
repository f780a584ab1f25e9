"""A product message on its way through the pipeline, with the results of the steps so far."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from product_consumer.errors import ProductConsumerError
from product_consumer.images.download import FetchedImage, FetchResult, ImageRequest
from product_consumer.ledger.rows import KnownImage, LookedUp, ProductChange
from product_consumer.models import Embeddings, ImageSource, Message, Product
from product_consumer.outcomes import Outcome
from product_consumer.vectors import Embedding

if TYPE_CHECKING:
    # It loads torch, which takes seconds and which a worker for orders alone does without.
    import numpy as np
    from numpy.typing import NDArray

    from product_consumer.embedding.preprocessing import PreparedItem


@dataclass(slots=True, eq=False)
class ProductItem:
    """A product message in work. For one thread at a time."""

    message: Message
    outcome: Outcome | None = None
    product: Product = field(init=False, repr=False)
    """The product of the body; set when the message is validated."""
    known: KnownImage | None = None
    """The product's image and embeddings in the ledger, made by the model in use."""
    is_outdated: bool = False
    """Whether the ledger has this message already, or a newer one of the product."""
    image_bytes: bytes = b""
    """The image file as downloaded; emptied once decoded."""
    image_source: ImageSource | None = None
    """Digest of the downloaded bytes, and how to ask whether they have changed."""
    tokens: "NDArray[np.int64] | None" = None
    """Token ids of the name, shape (context length,), int64."""
    prepared: "PreparedItem | None" = None
    """Input of the model; None before preprocessing, and again once embedded."""
    embeddings: Embeddings | None = None
    """Of name and image; each of unit length, shape (dimension,), float32."""

    @property
    def needs_image(self) -> bool:
        """Whether the message needs an image and embeddings before it can be stored."""
        return not (self.product.deleted or self.is_outdated)

    def take_known(self, known: LookedUp) -> None:
        """Keep the ledger's knowledge of the product."""
        self.known = known.image
        self.is_outdated = known.is_outdated

    def image_request(self) -> ImageRequest:
        """Return the request for the image; of a known image, only for a changed one."""
        url, known = self.product.image_url, self.known
        if known is None or known.image_url != url:
            return ImageRequest(url)
        return ImageRequest(url, known.source.etag, known.source.last_modified)

    def take_image(self, result: FetchResult) -> None:
        """Keep the response of the image's server; raises ``result`` if it is an error."""
        if isinstance(result, ProductConsumerError):
            raise result
        if isinstance(result, FetchedImage):
            digest = hashlib.sha256(result.data).hexdigest()
            self.image_bytes = result.data
            self.image_source = ImageSource(digest, result.etag, result.last_modified)
        elif self.known is not None:
            self.image_source = self.known.source

    @property
    def new_digest(self) -> str | None:
        """SHA-256 of the image, hex; None without an image, and for the product's known image."""
        if self.image_source is None:
            return None
        is_known = self.known is not None and self.known.source.sha256 == self.image_source.sha256
        return None if is_known else self.image_source.sha256

    def image_embedding(self, by_digest: Mapping[str, Embedding]) -> Embedding | None:
        """Return the image's embedding, if the same bytes were embedded before.

        ``by_digest``: known embeddings by SHA-256, hex.
        """
        if self.new_digest is not None:
            return by_digest.get(self.new_digest)
        return self.known.embeddings.image if self.known else None

    def take_embeddings(self, result: Embeddings | ProductConsumerError) -> None:
        """Keep the embeddings, drop the model's input; raises ``result`` if it is an error."""
        if isinstance(result, ProductConsumerError):
            raise result
        self.embeddings = result
        self.prepared = None

    def change(self) -> ProductChange:
        """Return the change for the ledger to record."""
        return ProductChange(self.product, self.embeddings, self.image_source)
