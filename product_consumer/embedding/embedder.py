"""Image and name -> embeddings: one model, one lock, one thread that runs the model.

Callers prepare items in their own threads (resize, crop, tokenise; bytes, not floats) and hand them
over. The model thread takes all waiting items as one batch. Each item has a future for its
embeddings or its error.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from product_consumer.embedding.batcher import Batcher
from product_consumer.embedding.forward_pass import ItemEmbeddings, ModelRunner
from product_consumer.embedding.loading import LoadedModel, load_model
from product_consumer.embedding.preprocessing import PreparedItem, Preparer
from product_consumer.embedding.trial import TRIAL_NAMES, find_problem, trial_items
from product_consumer.embedding.weights import find_not_finite
from product_consumer.errors import (
    MAX_UNEXPECTED_ATTEMPTS,
    ConfigurationError,
    FatalError,
    ProductConsumerError,
    RetryMessage,
    Unavailable,
)
from product_consumer.models import Embeddings
from product_consumer.vectors import Embedding

if TYPE_CHECKING:
    from product_consumer.settings import Settings

log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
# A GPU works off a full queue in seconds. A GPU that has not answered in a minute hangs, and only a
# new process helps. A CPU takes seconds for a single image.
ANSWER_SECONDS = {"cuda": 60.0, "mps": 60.0, "cpu": 600.0}
# A CPU gains nothing from a larger batch, and every item waits for the whole batch.
MAX_CPU_BATCH = 16
# Batches that the queue holds while another runs; 336 x 336 pixels are a third of a megabyte.
WAITING_BATCHES = 4


class Embedder:
    """A loaded model as a service: takes images and texts, returns embeddings.

    Any thread may call any method. An error of one item is returned in its place;
    ``FatalError`` means that the model cannot run any more.

    ``model_id`` changes whenever the embeddings could: with model, weights, activation, and the
    digest of the operator's own configuration. ``dimension`` is the length of every embedding.
    ``logit_scale`` is what the model multiplies a cosine by before a softmax over texts.
    """

    def __init__(self, loaded: LoadedModel, *, max_batch: int) -> None:
        self.model_id = loaded.model_id
        self.dimension = loaded.dimension
        self.logit_scale = loaded.logit_scale
        self.device = str(loaded.device)
        self._loaded = loaded
        self._preparer = Preparer(loaded)
        self._max_batch = min(max_batch, MAX_CPU_BATCH) if self.device == "cpu" else max_batch
        self._trial = trial_items(self._preparer)
        self._runner = ModelRunner(loaded, self._max_batch, known_good=self._trial)
        self._answer_seconds = ANSWER_SECONDS[loaded.device.type]
        self._batcher: Batcher[PreparedItem, ItemEmbeddings] = Batcher(
            self._runner.run_batch,
            name="model",
            max_batch=self._max_batch,
            max_waiting=WAITING_BATCHES * self._max_batch,
        )

    def tokenise(self, text: str) -> NDArray[np.int64]:
        """Return the token ids of any text: int64, shape (context length,), padded."""
        return self._preparer.tokenise(text)

    def prepare(
        self, pixels: NDArray[np.uint8] | None, tokens: NDArray[np.int64] | None
    ) -> PreparedItem:
        """Resize an image to the model's size and put it beside its tokens.

        ``pixels``: RGB, uint8, shape (height, width, 3). ``tokens``: as ``tokenise`` returns them.
        """
        return PreparedItem(None if pixels is None else self._preparer.resize(pixels), tokens)

    def embed(
        self, items: Sequence[PreparedItem], *, alone: bool = False
    ) -> list[Embeddings | ProductConsumerError]:
        """Return the embeddings of each item, or its error; waits for the model thread.

        Every item needs both sides. With ``alone`` each item has a forward pass of its own.

        Errors of an item: ``EmbeddingRejected`` (``embedding_invalid``) when its embeddings are not
        finite or have no length, twice; ``RetryMessage`` when the device has no memory for the item
        alone. Raises ``FatalError`` when the device is lost or does not answer, and ``Unavailable``
        when the embedder is closed or its queue stays full.
        """
        if any(item.pixels is None or item.tokens is None for item in items):
            raise ValueError("a product is embedded by image and text, and one of them is missing")
        return [_both_sides(answer) for answer in self._ask(items, alone=alone)]

    def embed_sides(
        self, items: Sequence[PreparedItem], *, alone: bool = False
    ) -> list[ItemEmbeddings | ProductConsumerError]:
        """Do what ``embed`` does for items of which each may have one side only."""
        return self._ask(items, alone=alone)

    def embed_text(self, text: str) -> Embedding:
        """Return the embedding of a text; raises each error that ``embed`` returns or raises."""
        embeddings = self._ask_one(self.prepare(None, self.tokenise(text)))
        return _present(embeddings.text)

    def embed_image(self, pixels: NDArray[np.uint8]) -> Embedding:
        """Return the embedding of an image; raises each error that ``embed`` returns or raises.

        ``pixels``: RGB, uint8, shape (height, width, 3).
        """
        embeddings = self._ask_one(self.prepare(pixels, None))
        return _present(embeddings.image)

    def warm_up(self) -> float:
        """Try the model, on an accelerator with a full batch too; return the seconds it took.

        This chooses kernels and reserves memory before the first messages come. On CUDA it captures
        graphs of the usual batch sizes. Raises ``ConfigurationError`` when the embeddings of the
        trial items are of no use, and ``FatalError`` when the model cannot run at all.
        """
        started = time.monotonic()
        self._runner.capture_before_next_batch()
        counts = (
            (len(self._trial),) if self.device == "cpu" else (len(self._trial), self._max_batch)
        )
        error = self.try_out(counts)
        if error is not None:
            raise error
        return time.monotonic() - started

    def try_out(
        self, batch_sizes: Sequence[int] = (len(TRIAL_NAMES),)
    ) -> ConfigurationError | None:
        """Embed the trial items alone and in batches; return the error of a model that is no good.

        Raises ``FatalError`` when the model cannot run at all.
        """
        alone = [self._try([item])[0] for item in self._trial]
        problem = find_problem(alone)
        if problem is not None:
            return ConfigurationError("OPENCLIP_PRETRAINED", f"{self._loaded.described} {problem}")
        for size in batch_sizes:
            items = [self._trial[number % len(self._trial)] for number in range(size)]
            if not all(embeddings.is_valid for embeddings in self._try(items)):
                return ConfigurationError(
                    "MODEL_MAX_BATCH",
                    f"{self._loaded.described} gives valid embeddings of one item at a time, but"
                    f" not of {size} on {self.device}; 1 may work",
                )
        return None

    @property
    def shorter_side_pixels(self) -> int | None:
        """Target size of an image's shorter side, for ``ImageDecoder.decode``; None: full size."""
        return self._preparer.shorter_side_pixels

    @property
    def model_lock(self) -> threading.Lock:
        """Held during forward passes by the thread that runs the model."""
        return self._runner.model_lock

    def watch_passes(self, on_pass: Callable[[int], None]) -> None:
        """Call ``on_pass`` in the model thread with the item count of every forward pass."""
        self._runner.on_pass = on_pass

    @property
    def failed(self) -> bool:
        """True once the model cannot run any more; the process should end."""
        return self._batcher.failed

    @property
    def answer_seconds(self) -> float:
        """How long an item may wait for its embeddings once it is in the queue."""
        return self._answer_seconds

    def close(self) -> None:
        """Refuse new items; items that wait longer than ``CLOSE_SECONDS`` are ``Unavailable``."""
        self._batcher.close(CLOSE_SECONDS)

    def _try(self, items: Sequence[PreparedItem]) -> list[ItemEmbeddings]:
        tried: list[ItemEmbeddings] = []
        for answer in self._ask(items):
            if isinstance(answer, ProductConsumerError):
                described = self._loaded.described
                raise FatalError(f"{described} cannot run on {self.device}: {answer}") from answer
            tried.append(answer)
        return tried

    def _ask_one(self, item: PreparedItem) -> ItemEmbeddings:
        answer = self._ask([item])[0]
        if isinstance(answer, ProductConsumerError):
            raise answer
        return answer

    def _ask(
        self, items: Sequence[PreparedItem], *, alone: bool = False
    ) -> list[ItemEmbeddings | ProductConsumerError]:
        futures = self._batcher.submit(items, timeout_seconds=self._answer_seconds, alone=alone)
        deadline = time.monotonic() + self._answer_seconds
        return [self._answer(future, deadline) for future in futures]

    def _answer(
        self, future: "Future[ItemEmbeddings]", deadline: float
    ) -> ItemEmbeddings | ProductConsumerError:
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except (FatalError, Unavailable):
            raise
        except ProductConsumerError as error:
            return error
        except Exception as error:
            if not future.done():
                limit = f"{self._answer_seconds:g} s"
                raise FatalError(f"the model has not answered for {limit}") from error
            return _unexpected(error)


def load_embedder(settings: "Settings") -> Embedder:
    """Load the model that the settings name; takes seconds to minutes.

    A model that does not work in half precision, for example because float16 overflows, is loaded
    again in float32. ``warm_up`` refuses it if it does not work then either.

    Raises ``ConfigurationError`` naming the setting that does not work: weights that are missing or
    of another model, an unknown name or device. Weights are never left random. Raises
    ``FatalError`` when the device has no memory left for the model.
    """
    loaded = load_model(settings)
    embedder = Embedder(loaded, max_batch=settings.model_max_batch)
    if loaded.dtype == torch.float32:
        return embedder
    problem = _problem_of_half_precision(loaded, embedder)
    if problem is None:
        return embedder
    log.warning("%s; it is tried in float32, which is slower", problem)
    embedder.close()
    # The device may have no room for both.
    del embedder, loaded
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Embedder(load_model(settings, torch.float32), max_batch=settings.model_max_batch)


def _problem_of_half_precision(loaded: LoadedModel, embedder: Embedder) -> str | None:
    overflowed = find_not_finite(loaded.model)
    if overflowed is not None:
        return f"{loaded.described} does not work: {overflowed}"
    error = embedder.try_out()
    return None if error is None else error.problem


def _both_sides(answer: ItemEmbeddings | ProductConsumerError) -> Embeddings | ProductConsumerError:
    if isinstance(answer, ProductConsumerError):
        return answer
    return Embeddings(text=_present(answer.text), image=_present(answer.image))


def _present(embedding: Embedding | None) -> Embedding:
    if embedding is None:
        raise ValueError("the model thread left out an embedding that was asked for")
    return embedding


def _unexpected(error: Exception) -> RetryMessage:
    """Return the error of an item that failed alone by a bug of ours or of the model."""
    kind = type(error).__name__
    log.error("A forward pass of one item failed: %s", kind, exc_info=error)
    unexpected = RetryMessage(
        "embedding_failed",
        f"{kind}: {error}",
        max_attempts=MAX_UNEXPECTED_ATTEMPTS,
        final_reason=f"unexpected:{kind}",
    )
    unexpected.__cause__ = error
    return unexpected
