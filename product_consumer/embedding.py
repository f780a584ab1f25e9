"""Picture and name to unit vectors: one model, one lock, one thread that runs it.

Callers prepare items in their own threads (resize, crop, tokenise; bytes, not floats) and hand
them over; the model thread takes what waits as one batch and gives each item's vectors or error
back through its own future. Mean and deviation are applied on the device: a picture travels there
as one byte per value instead of four.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import Resize, v2

from product_consumer.batching import Batcher
from product_consumer.errors import (
    MAX_UNEXPECTED_ATTEMPTS,
    EmbeddingRejected,
    FatalError,
    ProductConsumerError,
    RetryMessage,
    Unavailable,
)
from product_consumer.model_loading import LoadedModel, load_model
from product_consumer.models import Embedding, Embeddings
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
# A GPU answers a full queue in seconds; one that has not in a minute hangs, and only a new process
# helps. A CPU takes seconds for a single picture.
ANSWER_SECONDS = {"cuda": 60.0, "mps": 60.0, "cpu": 600.0}
# Beyond this a CPU gains nothing from a larger batch, and every item waits for the whole of it.
MAX_CPU_BATCH = 16
# While one batch runs, the queue holds the next ones; 336 x 336 pixels are a third of a megabyte.
WAITING_BATCHES = 4
# Models of pictures from this size on may use the fast resize: among so many pixels a rounding here
# and there moves a vector far less than bfloat16 does. Smaller models show it.
FAST_RESIZE_PIXELS = 224
# The longest entry of OpenCLIP's vocabulary has 32 characters. A longer text than this cannot
# reach the vectors, but takes time that grows with the square of its longest word.
CHARACTERS_PER_TOKEN = 33
# The tokenizer remembers every word it ever saw.
MAX_REMEMBERED_WORDS = 200_000

DEVICE_ERRORS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "HIP error")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedItem:
    """What the model thread needs of one item; a search has only one of the two sides."""

    pixels: NDArray[np.uint8] | None
    """RGB, (height, width, 3), of the model's own size."""
    tokens: NDArray[np.int64] | None
    """Token ids, (context length,), padded."""


@dataclass(frozen=True, slots=True, eq=False)
class _Vectors:
    """Normalised rows of one item; not finite where the model's output was not or had no length."""

    text: Embedding | None
    image: Embedding | None

    @property
    def is_valid(self) -> bool:
        present = [side for side in (self.text, self.image) if side is not None]
        return all(bool(np.isfinite(side).all()) for side in present)


class Embedder:
    """Every method may be called from any thread.

    ``model_id`` changes whenever the vectors could: model, weights and activation, and the digest
    of a configuration of the operator's own. ``dimension`` is the length of every vector.
    """

    def __init__(self, loaded: LoadedModel, *, max_batch: int) -> None:
        self.model_id = loaded.model_id
        self.dimension = loaded.dimension
        self.device = str(loaded.device)
        self.model_lock = threading.Lock()
        """Held during forward passes, by whoever runs the model."""
        self._loaded = loaded
        self._picture_pixels = max(loaded.preprocess.input_size[1:])
        self._resize_and_crop = _resize_and_crop(loaded)
        self._fast_resize = _fast_resize(loaded, self._resize_and_crop[0])
        self._mean = _channels(loaded.preprocess.mean, loaded.device)
        self._std = _channels(loaded.preprocess.std, loaded.device)
        self._tokenizer_lock = threading.Lock()
        self._max_batch = min(max_batch, MAX_CPU_BATCH) if self.device == "cpu" else max_batch
        self._answer_seconds = ANSWER_SECONDS[loaded.device.type]
        self.on_pass: Callable[[int], None] = lambda _count: None
        """Told the number of items of every forward pass, in the model thread."""
        self._batcher: Batcher[PreparedItem, _Vectors] = Batcher(
            self._run_batch,
            name="model",
            max_batch=self._max_batch,
            max_waiting=WAITING_BATCHES * self._max_batch,
        )

    def prepare(self, picture: Image.Image | None, text: str | None) -> PreparedItem:
        """Resize, crop and tokenise in the caller's thread; takes no lock of the model's.

        The picture, RGB and of moderate proportions, is handled as by OpenCLIP's own evaluation
        transform of this model; any text is taken and cut to the model's context length, its end
        mark kept.
        """
        return PreparedItem(
            None if picture is None else self._prepare_picture(picture),
            None if text is None else self._tokenise(text),
        )

    def embed(
        self, items: Sequence[PreparedItem], *, alone: bool = False
    ) -> list[Embeddings | ProductConsumerError]:
        """Return the vectors of each item, or its error; blocks until the model thread answered.

        With ``alone`` each item has a forward pass of its own, shared with no other thread's.
        Every item needs both sides. Per item: ``EmbeddingRejected`` (``embedding_invalid``) when
        its vectors are not finite or have no length, twice; ``RetryMessage`` when the device has no
        memory for it alone. Raises ``FatalError`` when the device is lost or does not answer, and
        ``Unavailable`` when the embedder is closed or its queue stays full.
        """
        if any(item.pixels is None or item.tokens is None for item in items):
            raise ValueError(
                "a product is embedded by picture and text, and one of them is missing"
            )
        return [_both_sides(answer) for answer in self._ask(items, alone=alone)]

    def embed_text(self, text: str) -> Embedding:
        """Return the vector of a text; raises what ``embed`` returns or raises."""
        vectors = self._ask_one(self.prepare(None, text))
        return _present(vectors.text)

    def embed_picture(self, picture: Image.Image) -> Embedding:
        """Return the vector of a picture; raises what ``embed`` returns or raises."""
        vectors = self._ask_one(self.prepare(picture, None))
        return _present(vectors.image)

    def warm_up(self) -> float:
        """Run one item, and on an accelerator a full batch too; return the seconds it took.

        Kernels are chosen and memory is set aside now instead of under the first messages. Raises
        ``FatalError`` when the model cannot run at all.
        """
        started = time.monotonic()
        item = self.prepare(Image.new("RGB", (64, 64)), "warm up")
        for count in (1,) if self.device == "cpu" else (1, self._max_batch):
            for answer in self.embed([item] * count):
                self._check_warm(answer)
        return time.monotonic() - started

    @property
    def failed(self) -> bool:
        """True once the model cannot be run any more; the process should end."""
        return self._batcher.failed

    @property
    def answer_seconds(self) -> float:
        """How long an item may wait for its vectors, once there was room in the queue for it."""
        return self._answer_seconds

    def close(self) -> None:
        """Refuse new items; what waits has ``CLOSE_SECONDS`` to finish, then is ``Unavailable``."""
        self._batcher.close(CLOSE_SECONDS)

    def _check_warm(self, answer: Embeddings | ProductConsumerError) -> None:
        if isinstance(answer, EmbeddingRejected):
            log.warning("%s gives unusable vectors for a black picture: %s", self.model_id, answer)
        elif isinstance(answer, ProductConsumerError):
            raise FatalError(f"{self.model_id} cannot run on {self.device}: {answer}") from answer

    def _prepare_picture(self, picture: Image.Image) -> NDArray[np.uint8]:
        picture = picture.convert("RGB")
        if self._fast_resize is None or min(picture.size) < self._picture_pixels:
            for step in self._resize_and_crop:
                picture = step(picture)
            return np.asarray(picture, dtype=np.uint8)
        pixels = torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)
        for step in (self._fast_resize, *self._resize_and_crop[1:]):
            pixels = step(pixels)
        prepared: NDArray[np.uint8] = pixels.permute(1, 2, 0).contiguous().numpy()
        return prepared

    def _tokenise(self, text: str) -> NDArray[np.int64]:
        max_characters = CHARACTERS_PER_TOKEN * self._loaded.context_length
        if len(text) > max_characters:
            text = " ".join(text.split())[:max_characters]
        tokenizer = self._loaded.tokenizer
        with self._tokenizer_lock:
            remembered = getattr(tokenizer, "cache", None)
            if isinstance(remembered, dict) and len(remembered) > MAX_REMEMBERED_WORDS:
                special = {word: entry for word, entry in remembered.items() if word == entry}
                remembered.clear()
                remembered.update(special)
            tokens: NDArray[np.int64] = tokenizer(text)[0].numpy()
        return tokens

    def _ask_one(self, item: PreparedItem) -> _Vectors:
        answer = self._ask([item])[0]
        if isinstance(answer, ProductConsumerError):
            raise answer
        return answer

    def _ask(
        self, items: Sequence[PreparedItem], *, alone: bool = False
    ) -> list[_Vectors | ProductConsumerError]:
        futures = self._batcher.submit(items, timeout_seconds=self._answer_seconds, alone=alone)
        deadline = time.monotonic() + self._answer_seconds
        return [self._answer(future, deadline) for future in futures]

    def _answer(
        self, future: "Future[_Vectors]", deadline: float
    ) -> _Vectors | ProductConsumerError:
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

    def _run_batch(self, items: Sequence[PreparedItem]) -> list[_Vectors | Exception]:
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

    def _embed_batch(self, items: Sequence[PreparedItem]) -> list[_Vectors | Exception]:
        return [
            vectors if vectors.is_valid else self._embed_again_alone(item)
            for item, vectors in zip(items, self._forward(items), strict=True)
        ]

    def _embed_again_alone(self, item: PreparedItem) -> _Vectors | Exception:
        vectors = self._forward([item])[0]
        if vectors.is_valid:
            log.warning("A vector was not finite in its batch, but is when computed alone")
            return vectors
        return EmbeddingRejected("embedding_invalid", "not finite or without length, twice")

    def _forward(self, items: Sequence[PreparedItem]) -> list[_Vectors]:
        pixels = [item.pixels for item in items if item.pixels is not None]
        tokens = [item.tokens for item in items if item.tokens is not None]
        with self.model_lock, torch.inference_mode():
            image_rows = self._encode_images(pixels) if pixels else ()
            text_rows = self._encode_texts(tokens) if tokens else ()
        images, texts = iter(_normalise(image_rows)), iter(_normalise(text_rows))
        return [
            _Vectors(
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


def load_embedder(settings: Settings) -> Embedder:
    """Load the model the settings name; seconds to minutes.

    Raises ``ConfigurationError`` naming the setting that does not work: weights that are missing or
    of another model, an unknown name or device. Weights are never left random.
    """
    return Embedder(load_model(settings), max_batch=settings.model_max_batch)


def _resize_and_crop(loaded: LoadedModel) -> list[Any]:
    """The steps of OpenCLIP's transform before it turns the picture into floats."""
    kinds = [type(step).__name__ for step in loaded.transform.transforms]
    return list(loaded.transform.transforms[: kinds.index("MaybeConvertMode")])


def _fast_resize(loaded: LoadedModel, resize: object) -> v2.Resize | None:
    """The same antialiased filter on a byte tensor, at a third of Pillow's CPU time: when a picture
    is made smaller it differs by rounding between its two passes, two grey levels at most. None
    where it would not do."""
    is_large = min(loaded.preprocess.input_size[1:]) >= FAST_RESIZE_PIXELS
    if (
        not is_large
        or not isinstance(resize, Resize)
        or loaded.preprocess.interpolation != "bicubic"
    ):
        return None
    return v2.Resize(resize.size, interpolation=resize.interpolation, antialias=True)


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


def _both_sides(answer: _Vectors | ProductConsumerError) -> Embeddings | ProductConsumerError:
    if isinstance(answer, ProductConsumerError):
        return answer
    return Embeddings(text=_present(answer.text), image=_present(answer.image))


def _present(vector: Embedding | None) -> Embedding:
    if vector is None:
        raise ValueError("the model thread left out a vector that was asked for")
    return vector


def _unexpected(error: Exception) -> RetryMessage:
    """A bug of ours or the model's, met by one item alone."""
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


def _is_out_of_device_memory(error: RuntimeError) -> bool:
    # PyTorch has no class of its own for MPS.
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


def _is_device_failure(error: RuntimeError) -> bool:
    """A CUDA context is unusable after an error; every later call fails until the process ends."""
    text = str(error)
    return isinstance(error, torch.AcceleratorError) or any(name in text for name in DEVICE_ERRORS)
