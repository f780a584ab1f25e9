"""One message on its way through the pipeline, and what has been found out about it so far."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from product_consumer.errors import ProductConsumerError
from product_consumer.images.fetcher import FetchedImage, FetchResult, ImageRequest
from product_consumer.ledger.ledger import KnownPicture
from product_consumer.models import Embedding, Embeddings, Message, PictureSource, Product
from product_consumer.outcomes import Outcome

if TYPE_CHECKING:
    # It loads torch, which takes seconds and which a worker for orders alone does without.
    import numpy as np
    from numpy.typing import NDArray

    from product_consumer.embedding.preprocessing import PreparedItem


@dataclass(slots=True)
class Work:
    """Whoever settles the message's fate sets ``outcome``, and later steps leave it alone."""

    message: Message
    outcome: Outcome | None = None
    product: Product | None = None
    known: KnownPicture | None = None
    image: bytes = b""
    picture: PictureSource | None = None
    tokens: "NDArray[np.int64] | None" = None
    prepared: "PreparedItem | None" = None
    embeddings: Embeddings | None = None

    @property
    def valid_product(self) -> Product:
        """The product that the body was found to be."""
        if self.product is None:
            raise TypeError("a step was given work that has not been validated")
        return self.product

    def image_request(self) -> ImageRequest:
        """Return what to ask the image's server: for the image if it is not the known one."""
        url, known = self.valid_product.image_url, self.known
        if known is None or known.image_url != url:
            return ImageRequest(url)
        return ImageRequest(url, known.source.etag, known.source.last_modified)

    def take_image(self, result: FetchResult) -> None:
        """Keep what was answered; raises the error if it is one."""
        if isinstance(result, ProductConsumerError):
            raise result
        if isinstance(result, FetchedImage):
            digest = hashlib.sha256(result.data).hexdigest()
            self.image = result.data
            self.picture = PictureSource(digest, result.etag, result.last_modified)
        elif self.known is not None:
            self.picture = self.known.source

    @property
    def new_digest(self) -> str | None:
        """The digest of a picture that is not the product's known one."""
        if self.picture is None:
            return None
        is_known = self.known is not None and self.known.source.sha256 == self.picture.sha256
        return None if is_known else self.picture.sha256

    def image_embedding(self, by_digest: Mapping[str, Embedding]) -> Embedding | None:
        """Return the vector of the picture, where one was made of the same bytes before."""
        if self.new_digest is not None:
            return by_digest.get(self.new_digest)
        return self.known.embeddings.image if self.known else None

    def take_embeddings(self, result: Embeddings | ProductConsumerError) -> None:
        """Keep the vectors and drop what they were made of; raises the error if it is one."""
        if isinstance(result, ProductConsumerError):
            raise result
        self.embeddings = result
        self.prepared = None


def unsettled(batch: Iterable[Work]) -> list[Work]:
    """Return the work that has no outcome yet."""
    return [work for work in batch if work.outcome is None]
