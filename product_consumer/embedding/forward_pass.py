"""One batch through the model: pixels and token ids -> embeddings, device errors told apart."""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from product_consumer.embedding.cuda import CudaPasses, Rows
from product_consumer.embedding.loading import LoadedModel
from product_consumer.embedding.preprocessing import PreparedItem
from product_consumer.embedding.towers import Towers
from product_consumer.errors import EmbeddingRejected, FatalError, ModelBroken, RetryMessage
from product_consumer.vectors import Embedding

log = logging.getLogger(__name__)

DEVICE_ERRORS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "HIP error")

Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True, eq=False)
class ItemEmbeddings:
    """The embeddings of one item; NaN where the model's output was not finite or had no length.

    A side that the item does not have is None.
    """

    text: Embedding | None
    image: Embedding | None

    @property
    def is_valid(self) -> bool:
        """True if no side is NaN. Its first number tells: an embedding is NaN as a whole."""
        return not any(math.isnan(side[0]) for side in (self.text, self.image) if side is not None)


Outcomes = list[ItemEmbeddings | Exception]


class ModelRunner:
    """Runs batches of one model under a lock; the thread of the ``Batcher`` calls ``run_batch``.

    Device errors become ``FatalError``, lack of device memory ``RetryMessage``.

    ``known_good``: items that this model embeds. They are embedded again before an invalid
    embedding is blamed on another item.
    """

    def __init__(
        self, loaded: LoadedModel, max_batch: int, known_good: Sequence[PreparedItem]
    ) -> None:
        self.device = str(loaded.device)
        self._name = loaded.described
        self._known_good = known_good
        self.model_lock = threading.Lock()
        """Held while the model runs; on CUDA, while its kernels are queued."""
        self.on_pass: Callable[[int], None] = lambda _count: None
        """Called in the model thread with the item count of every forward pass."""
        self._input_size = loaded.preprocess.input_size
        self._towers = Towers(loaded)
        self._is_cuda = loaded.device.type == "cuda"
        self._passes: CudaPasses | _DirectPasses = (
            CudaPasses(self._towers, loaded.device, max_batch)
            if self._is_cuda
            else _DirectPasses(self._towers, loaded.device)
        )
        self._must_capture = False

    def capture_before_next_batch(self) -> None:
        """Let the model thread capture CUDA graphs before its next batch."""
        self._must_capture = self._is_cuda

    def run_batch(self, items: Sequence[PreparedItem]) -> Outcomes | Callable[[], Outcomes]:
        """Return each item's embeddings or error; on CUDA, a function that waits for them.

        Runs in the model thread. Raises ``RetryMessage`` when device memory ran out: the
        ``Batcher`` then halves the batch. Raises ``FatalError`` when the device is lost, and
        ``ModelBroken`` when the model gives no valid embedding even of a known good item.
        """
        self.on_pass(len(items))
        wait = self._guarded(len(items), lambda: self._begin(items))
        if self._is_cuda:
            return lambda: self._guarded(len(items), lambda: self._outcomes(items, wait))
        return self._guarded(len(items), lambda: self._outcomes(items, wait))

    def _guarded(self, count: int, action: Callable[[], Returned]) -> Returned:
        try:
            return action()
        except MemoryError as error:
            raise FatalError("the process is out of memory") from error
        except RuntimeError as error:
            if not _is_out_of_device_memory(error):
                if _is_device_failure(error):
                    raise FatalError(f"{self.device} failed: {error}") from error
                raise
        # Outside the handler: its traceback would keep the failed pass's tensors alive.
        if self._is_cuda:
            torch.cuda.empty_cache()
        raise RetryMessage("device_out_of_memory", f"a batch of {count} on {self.device}")

    def _begin(self, items: Sequence[PreparedItem]) -> Callable[[], tuple[Rows, Rows]]:
        pixels = [item.pixels for item in items if item.pixels is not None]
        tokens = [item.tokens for item in items if item.tokens is not None]
        with self.model_lock:
            if self._must_capture and isinstance(self._passes, CudaPasses):
                self._must_capture = False
                channels, height, width = self._input_size
                self._passes.capture((height, width, channels))
            return self._passes.queue(pixels, tokens)

    def _outcomes(
        self, items: Sequence[PreparedItem], wait: Callable[[], tuple[Rows, Rows]]
    ) -> Outcomes:
        return [
            embeddings if embeddings.is_valid or item.is_trial else self._embed_again_alone(item)
            for item, embeddings in zip(items, _pair(items, *wait()), strict=True)
        ]

    def _embed_again_alone(self, item: PreparedItem) -> ItemEmbeddings | Exception:
        embeddings = self._embed_alone(item)
        if embeddings.is_valid:
            log.warning("An embedding was not finite in its batch, but is when computed alone")
            return embeddings
        if not all(self._embed_alone(known).is_valid for known in self._known_good):
            raise ModelBroken(
                f"{self._name} no longer gives valid embeddings, not even of the items that it"
                " embedded at the start; no message is blamed"
            )
        return EmbeddingRejected("embedding_invalid", "not finite or without length, twice")

    def _embed_alone(self, item: PreparedItem) -> ItemEmbeddings:
        [embeddings] = _pair([item], *self._begin([item])())
        return embeddings


class _DirectPasses:
    """Forward passes that are done when ``queue`` returns: on a CPU or on MPS."""

    def __init__(self, towers: Towers, device: torch.device) -> None:
        self._towers = towers
        self._device = device

    def queue(
        self, pixels: Sequence[NDArray[np.uint8]], tokens: Sequence[NDArray[np.int64]]
    ) -> Callable[[], tuple[Rows, Rows]]:
        images = texts = np.empty((0, 0), np.float32)
        with torch.inference_mode():
            if pixels:
                batch = torch.from_numpy(np.stack(pixels)).to(self._device)
                images = self._towers.encode_images(batch).cpu().numpy()
            if tokens:
                batch = torch.from_numpy(self._towers.cut(tokens)).to(self._device)
                texts = self._towers.encode_texts(batch).cpu().numpy()
        return lambda: (images, texts)


def _pair(items: Sequence[PreparedItem], image_rows: Rows, text_rows: Rows) -> list[ItemEmbeddings]:
    images, texts = iter(_normalise(image_rows)), iter(_normalise(text_rows))
    return [
        ItemEmbeddings(
            text=None if item.tokens is None else next(texts),
            image=None if item.pixels is None else next(images),
        )
        for item in items
    ]


def _normalise(rows: Rows) -> list[Embedding]:
    """Divide each row by its length, in float64 so that no finite row overflows.

    A row that is not finite or has no length becomes NaN.
    """
    wide = rows.astype(np.float64)
    if wide.size == 0:
        return []
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    lengths[~np.isfinite(lengths) | (lengths == 0)] = np.nan
    with np.errstate(invalid="ignore"):
        return list((wide / lengths).astype(np.float32))


def _is_out_of_device_memory(error: RuntimeError) -> bool:
    # PyTorch has no exception class for MPS.
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


def _is_device_failure(error: RuntimeError) -> bool:
    """Return True for an error after which every later call fails until the process ends."""
    text = str(error)
    return isinstance(error, torch.AcceleratorError) or any(name in text for name in DEVICE_ERRORS)
