"""One batch through the model: pixels and token ids to unit vectors, device errors told apart.

Mean and deviation are applied on the device: a picture travels there as one byte per value instead
of four.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from product_consumer.errors import EmbeddingRejected, FatalError, RetryMessage
from product_consumer.model_loading import LoadedModel
from product_consumer.models import Embedding
from product_consumer.preparing import PreparedItem

log = logging.getLogger(__name__)

DEVICE_ERRORS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "HIP error")


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Normalised rows of one item; not finite where the model's output was not or had no length."""

    text: Embedding | None
    image: Embedding | None

    @property
    def is_valid(self) -> bool:
        present = [side for side in (self.text, self.image) if side is not None]
        return all(bool(np.isfinite(side).all()) for side in present)


class ModelRunner:
    """Runs batches under one lock; ``run_batch`` is what the ``Batcher`` calls in its thread."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.device = str(loaded.device)
        self.model_lock = threading.Lock()
        """Held during forward passes, by whoever runs the model."""
        self._loaded = loaded
        self._mean = _channels(loaded.preprocess.mean, loaded.device)
        self._std = _channels(loaded.preprocess.std, loaded.device)
        self.on_pass: Callable[[int], None] = lambda _count: None
        """Told the number of items of every forward pass, in the model thread."""

    def run_batch(self, items: Sequence[PreparedItem]) -> list[Vectors | Exception]:
        """Run in the model thread; ``RetryMessage`` when memory ran out, which halves the batch."""
        self.on_pass(len(items))
        try:
            return self._embed_batch(items)
        except MemoryError as error:
            raise FatalError("the process is out of memory") from error
        except RuntimeError as error:
            if not _is_out_of_device_memory(error):
                if _is_device_failure(error):
                    raise FatalError(f"{self.device} failed: {error}") from error
                raise
        # Not within the handler: the traceback would keep the failed pass's tensors alive.
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        raise RetryMessage("device_out_of_memory", f"a batch of {len(items)} on {self.device}")

    def _embed_batch(self, items: Sequence[PreparedItem]) -> list[Vectors | Exception]:
        return [
            vectors if vectors.is_valid else self._embed_again_alone(item)
            for item, vectors in zip(items, self._forward(items), strict=True)
        ]

    def _embed_again_alone(self, item: PreparedItem) -> Vectors | Exception:
        vectors = self._forward([item])[0]
        if vectors.is_valid:
            log.warning("A vector was not finite in its batch, but is when computed alone")
            return vectors
        return EmbeddingRejected("embedding_invalid", "not finite or without length, twice")

    def _forward(self, items: Sequence[PreparedItem]) -> list[Vectors]:
        pixels = [item.pixels for item in items if item.pixels is not None]
        tokens = [item.tokens for item in items if item.tokens is not None]
        with self.model_lock, torch.inference_mode():
            image_rows = self._encode_images(pixels) if pixels else ()
            text_rows = self._encode_texts(tokens) if tokens else ()
        images, texts = iter(_normalise(image_rows)), iter(_normalise(text_rows))
        return [
            Vectors(
                text=None if item.tokens is None else next(texts),
                image=None if item.pixels is None else next(images),
            )
            for item in items
        ]

    def _encode_images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        loaded = self._loaded
        batch = torch.from_numpy(np.stack(pixels)).to(loaded.device)
        # The operations and their order are those of ToTensor and Normalize, so results are equal.
        values = batch.permute(0, 3, 1, 2).contiguous().to(torch.float32)
        values.div_(255).sub_(self._mean).div_(self._std)
        return _to_numpy(loaded.model.encode_image(values.to(loaded.dtype)))

    def _encode_texts(self, tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        batch = torch.from_numpy(np.stack(tokens)).to(self._loaded.device)
        return _to_numpy(self._loaded.model.encode_text(batch))


def _channels(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(1, 3, 1, 1)


def _to_numpy(features: torch.Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = features.float().cpu().numpy()
    return rows


def _normalise(rows: NDArray[np.float32] | tuple[()]) -> list[Embedding]:
    """Divide by the length, in float64 so that no finite row overflows; a row that is not finite
    or has no length becomes NaN."""
    wide = np.asarray(rows, dtype=np.float64)
    if wide.size == 0:
        return []
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return list(unit.astype(np.float32))


def _is_out_of_device_memory(error: RuntimeError) -> bool:
    # PyTorch has no class of its own for MPS.
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


def _is_device_failure(error: RuntimeError) -> bool:
    """A CUDA context is unusable after an error; every later call fails until the process ends."""
    text = str(error)
    return isinstance(error, torch.AcceleratorError) or any(name in text for name in DEVICE_ERRORS)
