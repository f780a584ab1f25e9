"""Measures the demo's model on a fresh catalogue: how often words find the right product."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from product_consumer.demo.drawings.catalogue import assortment, draw_catalogue
from product_consumer.demo.tiny_model import MODEL_NAME, config_path
from product_consumer.models import VECTOR_FIELDS, Embeddings, embeddings_by_field

Preprocess = Callable[[Image.Image], torch.Tensor]
Matrix = NDArray[np.float32]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares (0 to 1) of queries whose first result is right."""

    kind: float
    kind_and_colour: float


class DemoModel:
    """The trained model as OpenCLIP loads it: float32, on the CPU; for one thread."""

    def __init__(self, weights: Path) -> None:
        open_clip.add_model_config(config_path())
        self._model, _, self._preprocess = open_clip.create_model_and_transforms(
            MODEL_NAME, pretrained=str(weights)
        )
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(MODEL_NAME)

    def embed_texts(self, texts: Sequence[str]) -> Matrix:
        """Return embeddings of unit length, float32, (N, 768)."""
        with torch.no_grad():
            return _array(self._model.encode_text(self._tokenizer(list(texts)), normalize=True))

    def embed_images(self, paths: Sequence[Path]) -> Matrix:
        """Return embeddings of image files: unit length, float32, (N, 768)."""
        inputs = []
        for path in paths:
            with Image.open(path) as image:
                inputs.append(self._preprocess(image.convert("RGB")))
        with torch.no_grad():
            return _array(self._model.encode_image(torch.stack(inputs), normalize=True))


def _array(embeddings: torch.Tensor) -> Matrix:
    return embeddings.numpy().astype(np.float32)


def retrieval_rates(
    model: DemoModel, seed: int, count: int = 120, query: str = "{colour} {kind}"
) -> dict[str, Rates]:
    """Search a new catalogue for each kind and colour; return the rates by vector field."""
    pairs = assortment(seed, count)
    with tempfile.TemporaryDirectory() as name:
        products = draw_catalogue(Path(name), seed, count)
        fields = _embed(model, products, Path(name) / "images")
    asked = sorted(set(pairs))
    texts = [query.format(kind=kind, colour=colour) for kind, colour in asked]
    queries = model.embed_texts(texts)
    return {name: _rates(queries, fields[name], asked, pairs) for name in VECTOR_FIELDS}


def _embed(model: DemoModel, products: list[dict[str, Any]], images: Path) -> dict[str, Matrix]:
    text_embeddings = model.embed_texts([product["name"] for product in products])
    image_embeddings = model.embed_images([images / product["image"] for product in products])
    pairs = zip(text_embeddings, image_embeddings, strict=True)
    embeddings = [Embeddings(text, image) for text, image in pairs]
    return {name: np.stack(embeddings_by_field(embeddings, name)) for name in VECTOR_FIELDS}


def _rates(queries: Matrix, embeddings: Matrix, asked: list[Pair], pairs: list[Pair]) -> Rates:
    hits = [pairs[first] for first in np.argmax(queries @ embeddings.T, axis=1)]
    kinds = sum(hit[0] == right[0] for hit, right in zip(hits, asked, strict=True))
    exact = sum(hit == right for hit, right in zip(hits, asked, strict=True))
    return Rates(kinds / len(asked), exact / len(asked))
