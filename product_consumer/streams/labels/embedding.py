"""Prompts -> one embedding per label: the normalised mean of the embeddings of its prompts."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from product_consumer.embedding.embedder import Embedder
from product_consumer.errors import ConfigurationError, ProductConsumerError
from product_consumer.pipeline.backoff import Stopped
from product_consumer.streams.labels.kept import KeptLabels
from product_consumer.streams.labels.prompts import Templates, prompts_of
from product_consumer.streams.labels.reading import OPTION, LabelFile
from product_consumer.text import excerpt
from product_consumer.vectors import Embedding

log = logging.getLogger(__name__)

CHUNK = 256
"""Prompts that are handed to the model at once: a stop waits for no more of them."""
LINE_SECONDS = 30.0


def label_embeddings(
    file: LabelFile,
    templates: Templates,
    embedder: Embedder,
    directory: Path,
    stopping: threading.Event,
) -> NDArray[np.float32]:
    """Return the embedding of each label, in order: unit vectors, shape (labels, dimension).

    They are kept in ``directory`` for the next start. Raises ``Stopped``, ``FatalError``, and
    ``ConfigurationError`` for a label that the model cannot embed.
    """
    kept = KeptLabels(directory, file, templates.value, embedder.model_id, embedder.dimension)
    known = kept.read()
    if known is not None:
        return known
    made = _embed(file, templates, embedder, stopping)
    kept.write(made)
    return made


def _embed(
    file: LabelFile, templates: Templates, embedder: Embedder, stopping: threading.Event
) -> NDArray[np.float32]:
    prompts = [prompts_of(label, own, templates) for label, own in file.prompts.items()]
    flat = [prompt for of_label in prompts for prompt in of_label]
    log.info("Embedding %d prompts of %d labels", len(flat), len(prompts))
    started = told = monotonic()
    rows: list[Embedding] = []
    while len(rows) < len(flat):
        if stopping.is_set():
            raise Stopped
        rows += _embed_texts(flat[len(rows) : len(rows) + CHUNK], embedder)
        if monotonic() - told > LINE_SECONDS:
            told = monotonic()
            log.info("Embedded %d of %d prompts", len(rows), len(flat))
    log.info("Embedded the labels in %.1f s", monotonic() - started)
    return _means(np.stack(rows), [len(of_label) for of_label in prompts], file.labels)


def _embed_texts(texts: Sequence[str], embedder: Embedder) -> list[Embedding]:
    items = [embedder.prepare(None, embedder.tokenise(text)) for text in texts]
    embeddings = []
    for text, answer in zip(texts, embedder.embed_sides(items), strict=True):
        if isinstance(answer, ProductConsumerError) or answer.text is None:
            raise ConfigurationError(OPTION, f"the model cannot embed {excerpt(text)}: {answer}")
        embeddings.append(answer.text)
    return embeddings


def _means(
    rows: NDArray[np.float32], counts: Sequence[int], labels: Sequence[str]
) -> NDArray[np.float32]:
    starts = np.cumsum([0, *counts[:-1]])
    means = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
    means /= np.array(counts)[:, None]
    lengths = np.linalg.norm(means, axis=1)
    if not np.all(lengths > 0):
        label = labels[int(np.argmin(lengths))]
        raise ConfigurationError(OPTION, f"the prompts of {excerpt(label)} cancel each other out")
    unit: NDArray[np.float32] = (means / lengths[:, None]).astype(np.float32)
    return unit
