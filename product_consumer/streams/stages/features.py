"""The stage ``features``: pictures and texts -> vectors of the shared model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from product_consumer.embedding.embedder import Embedder
from product_consumer.embedding.forward_pass import ItemEmbeddings
from product_consumer.errors import ProductConsumerError, RejectMessage
from product_consumer.streams.stages.base import Items, StageBatch
from product_consumer.streams.stages.contents import (
    Content,
    Features,
    Picture,
    Words,
    read_content,
)
from product_consumer.streams.stages.guard import StageGuard
from product_consumer.streams.stages.item import StageItem
from product_consumer.streams.stages.pictures import PictureDecoder

IMAGE_FEATURES, TEXT_FEATURES = "image_features", "text_features"
_DECIMALS = 8
"""Of a number in a vector: more than a float32 of a unit vector tells."""


class Embedding:
    """The steps from a message to its vector, shared by the stages that need one. Thread-safe."""

    def __init__(
        self,
        pictures: PictureDecoder,
        embedder: Embedder,
        guard: StageGuard,
        *,
        max_image_bytes: int,
    ) -> None:
        self._pictures = pictures
        self._embedder = embedder
        self._guard = guard
        self._max_image_bytes = max_image_bytes

    def read(self, item: StageItem) -> Content:
        """Return what a message carries; raises ``RejectMessage``."""
        content = read_content(item.message, self._max_image_bytes)
        item.content = content
        if isinstance(content, Picture | Features):
            item.given_name = content.filename
        return content

    def embed(self, batch: StageBatch, items: Items) -> Items:
        """Turn the contents of items from pictures and texts into features; return those left."""
        return self._guard.run(batch, items, self._embed)

    def wait_until_ready(self) -> bool:
        """Block while the table of the crash guard is down; False when asked to stop."""
        return self._guard.wait_until_ready()

    def _embed(self, batch: StageBatch, items: Items, *, alone: bool = False) -> Items:
        with batch.stage("prepare"):
            prepared = batch.each("prepare", items, self._prepare)
        with batch.stage("embed"):
            sides = [item.content for item in prepared]
            embedded = self._embedder.embed_sides(sides, alone=alone)
            return batch.accept("embed", prepared, embedded, self._take)

    def _prepare(self, item: StageItem) -> None:
        content, embedder = item.content, self._embedder
        if isinstance(content, Picture):
            pixels = self._pictures.decode(content, embedder.shorter_side_pixels)
            item.content = embedder.prepare(pixels, None)
        elif isinstance(content, Words):
            item.content = embedder.prepare(None, embedder.tokenise(content.text))
        else:
            raise RejectMessage("kind_unsupported", "neither a picture nor a text")

    def _take(self, item: StageItem, embedded: ItemEmbeddings | ProductConsumerError) -> None:
        if isinstance(embedded, ProductConsumerError):
            raise embedded
        kind = TEXT_FEATURES if embedded.image is None else IMAGE_FEATURES
        vector: Any = embedded.text if embedded.image is None else embedded.image
        item.content = Features(kind, vector, self._embedder.model_id, item.filename)


class FeaturesStage:
    """The vector of each picture and text."""

    name = "features"

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding

    def work(self, batch: StageBatch, items: Items) -> Items:
        """See ``Stage``."""
        with batch.stage("validate"):
            read = batch.each("read", items, self._read)
        embedded = self._embedding.embed(batch, read)
        return batch.each("features", embedded, _finish)

    def finished(self, items: Items) -> None:
        """See ``Stage``."""

    def wait_until_ready(self) -> bool:
        """See ``Stage``."""
        return self._embedding.wait_until_ready()

    def _read(self, item: StageItem) -> None:
        item.kind = "features"
        content = self._embedding.read(item)
        if not isinstance(content, Picture | Words):
            raise RejectMessage("kind_unsupported", "neither a picture nor a text")
        item.kind = IMAGE_FEATURES if isinstance(content, Picture) else TEXT_FEATURES


def numbers(vector: NDArray[np.float32]) -> list[float]:
    """Return a vector as numbers of JSON."""
    return [round(number, _DECIMALS) for number in vector.tolist()]


def _finish(item: StageItem) -> None:
    features: Features = item.content
    item.finish(features.kind, features.model, vector=numbers(features.vector), source=item.source)
