"""The real embedder on a fake device that fails as a test asks.

Embedder, model thread, batches and the reading of device errors are the worker's own. The model is
replaced by the known embeddings of ``fake_embedder.py``. ``HARNESS_DEVICE`` is one of
``out_of_memory:4`` (for a batch of more than four), ``lost`` (at the first message),
``not_finite:<text>`` and ``kill:<text>`` (whenever a product of this name is in the batch),
``broken`` (from the first message on, nothing but NaN), ``die``, ``exit`` and ``hang`` (the model
thread).
"""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import torch
from open_clip.transform import MaybeConvertMode, PreprocessCfg
from torchvision.transforms import Compose, Resize

from product_consumer.embedding.embedder import Embedder
from product_consumer.embedding.loading import LoadedModel
from product_consumer.embedding.trial import TRIAL_NAMES
from tests.faults.harness.fake_embedder import DIMENSION, image_embedding, text_embedding

__all__ = ["Embedder", "load_embedder"]

SIZE = (24, 32)
CONTEXT_LENGTH = 128


class FakeDevice:
    """Has the methods of a model; ``fault`` says how the device fails."""

    def __init__(self, fault: str) -> None:
        self._kind, _, self._argument = fault.partition(":")
        self._is_broken = False

    def encode_image(self, values: torch.Tensor) -> torch.Tensor:
        """(N, 3, height, width) with values from 0 to 1 -> (N, DIMENSION)."""
        pixels = (values * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return torch.tensor(list(map(list, (image_embedding(image.tobytes()) for image in pixels))))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, CONTEXT_LENGTH) of UTF-8 bytes, padded with zeros -> (N, DIMENSION)."""
        texts = [bytes(number for number in row if number).decode() for row in tokens.tolist()]
        if not set(texts) <= set(TRIAL_NAMES):
            self._fail(texts)
        embeddings = torch.tensor(list(map(list, map(text_embedding, texts))))
        if self._kind == "not_finite" and self._argument in texts:
            embeddings[texts.index(self._argument)] = float("nan")
        if self._is_broken:
            embeddings[:] = float("nan")
        return embeddings

    def _fail(self, texts: Sequence[str]) -> None:
        match self._kind:
            case "out_of_memory" if len(texts) > int(self._argument):
                raise torch.OutOfMemoryError("CUDA out of memory")
            case "lost":
                raise torch.AcceleratorError("an illegal memory access was encountered")
            case "kill" if self._argument in texts:
                os.kill(os.getpid(), signal.SIGKILL)
            case "broken":
                self._is_broken = True
            case "die":
                raise BaseException("a thread that the harness ends")
            case "exit":
                raise SystemExit(3)
            case "hang":
                time.sleep(600)


def load_embedder(_settings: Any) -> Embedder:
    resize_and_convert = [Resize(SIZE), MaybeConvertMode("RGB")]
    loaded = LoadedModel(
        model=FakeDevice(os.environ.get("HARNESS_DEVICE", "")),
        model_id="stand-in",
        described="stand-in",
        dimension=DIMENSION,
        device=torch.device("cpu"),
        dtype=torch.float32,
        preprocess=PreprocessCfg(size=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        transform=Compose(resize_and_convert),
        tokenizer=_tokenise,
        context_length=CONTEXT_LENGTH,
        logit_scale=100.0,
    )
    return Embedder(loaded, max_batch=16)


def _tokenise(text: str) -> torch.Tensor:
    content = text.encode()
    return torch.tensor([list(content) + [0] * (CONTEXT_LENGTH - len(content))])
