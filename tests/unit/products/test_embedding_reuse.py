"""Embeddings that the ledger has are used again; only new images and names need the model."""

from typing import Any

import pytest

from product_consumer.ledger.rows import KnownImage
from product_consumer.models import ImageSource
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.context import new_context
from product_consumer.products.embedding_reuse import EmbeddingReuse
from product_consumer.products.item import ProductItem
from tests.support import factories

KNOWN = factories.embeddings(1)
URL = "https://cdn.example/a.jpg"


class FakeLedger:
    """Has the image embeddings that a test gives it, by digest."""

    def __init__(self, **by_digest: Any) -> None:
        self.by_digest = by_digest
        self.asked: list[list[str]] = []

    def image_embeddings(self, sha256s: list[str]) -> dict[str, Any]:
        self.asked.append(list(sha256s))
        return {key: self.by_digest[key] for key in sha256s if key in self.by_digest}


class FakeEmbedder:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_text(self, text: str) -> Any:
        self.texts.append(text)
        return factories.embeddings(len(text)).text


class Rig:
    def __init__(self, **by_digest: Any) -> None:
        self.ledger = FakeLedger(**by_digest)
        self.embedder = FakeEmbedder()
        self.context = new_context()
        stand_ins: tuple[Any, Any] = (self.ledger, self.embedder)
        self.reuse = EmbeddingReuse(*stand_ins, self.context)

    def split(self, *items: ProductItem) -> tuple[list[ProductItem], list[ProductItem]]:
        batch = Batch(items, self.context, max_attempts=3)
        return self.reuse.split(batch, list(items))


def item(name: str, digest: str, known: KnownImage | None = None) -> ProductItem:
    made = ProductItem(factories.message("{}"))
    made.product = factories.product(name=name)
    made.image_source = ImageSource(digest)
    made.known = known
    return made


def known_as(name: str, digest: str) -> KnownImage:
    return KnownImage(name, URL, ImageSource(digest), KNOWN)


def test_a_price_that_changes_alone_needs_no_model() -> None:
    rig = Rig()
    same = item("Red mug", "d1", known_as("Red mug", "d1"))

    assert rig.split(same) == ([same], [])
    assert same.embeddings is not None
    assert (same.embeddings.text is KNOWN.text, same.embeddings.image is KNOWN.image) == (
        True,
        True,
    )
    assert rig.embedder.texts == []


def test_a_new_name_is_embedded_beside_its_known_image() -> None:
    rig = Rig()
    renamed = item("Blue mug", "d1", known_as("Red mug", "d1"))

    assert rig.split(renamed) == ([renamed], [])
    assert rig.embedder.texts == ["Blue mug"]


def test_an_image_that_another_product_has_is_not_embedded_again() -> None:
    image = factories.embeddings(7).image
    rig = Rig(shared=image)
    copy = item("Red mug", "shared")

    assert rig.split(copy) == ([copy], [])
    assert copy.embeddings is not None
    assert copy.embeddings.image is image


def test_a_new_image_needs_the_model() -> None:
    rig = Rig()
    changed = item("Red mug", "d2", known_as("Red mug", "d1"))

    assert rig.split(changed) == ([], [changed])
    assert rig.ledger.asked == [["d2"]]


def test_reused_embeddings_are_counted() -> None:
    rig = Rig()
    rig.split(item("Red mug", "d1", known_as("Red mug", "d1")), item("Cup", "d9"))

    value = rig.context.metrics.registry.get_sample_value
    assert value("product_message_flags_total", {"flag": "vectors_reused"}) == 1


def test_a_name_that_cannot_be_embedded_costs_its_own_message_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()

    def fail(_text: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rig.embedder, "embed_text", fail)
    same = item("Red mug", "d1", known_as("Red mug", "d1"))
    renamed = item("Blue mug", "d1", known_as("Red mug", "d1"))

    assert rig.split(same, renamed) == ([same], [])
    assert renamed.outcome is not None
