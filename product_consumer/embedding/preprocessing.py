"""Picture and name to what the model takes: pixels of its size and token ids.

This is done in the consumer threads, so that the model's thread never waits for it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import Resize, v2

from product_consumer.embedding.loading import LoadedModel
from product_consumer.embedding.tokenizer import make_tokenizer

# Models of pictures from this size on may use the fast resize: among so many pixels a rounding here
# and there moves a vector far less than bfloat16 does. Smaller models show it.
FAST_RESIZE_PIXELS = 224
# Pillow shrinks the height of taller pictures before their width, and rounds in between: torch, the
# other way round, then differs in an eighth of the values instead of in one of 300.
MAX_FAST_HEIGHT = 2


@dataclass(frozen=True, slots=True, eq=False)
class PreparedItem:
    """What the model thread needs of one item; a search has only one of the two sides."""

    pixels: NDArray[np.uint8] | None
    """RGB, (height, width, 3), of the model's own size."""
    tokens: NDArray[np.int64] | None
    """Token ids, (context length,), padded."""


class Preparer:
    """Resizes, crops and tokenises as OpenCLIP does for one model; for any number of threads,
    without a lock of the model's.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._is_half_precision = loaded.dtype != torch.float32
        self._picture_pixels: int = max(loaded.preprocess.input_size[1:])
        self._resize_and_crop = _resize_and_crop(loaded)
        self._fast_resize = _fast_resize(loaded, self._resize_and_crop[0])
        self._tokenise = make_tokenizer(loaded.tokenizer, loaded.context_length)

    @property
    def shorter_side_pixels(self) -> int | None:
        """What a picture's shorter side is shrunk to, for ``ImageDecoder.decode``; None where it is
        to decode every pixel.

        A large JPEG that is decoded at half its size saves a quarter of the CPU time of decoding
        and resizing, and differs by 0.2 grey levels on average. bfloat16 rounds every pixel by as
        much; in float32 it would be the largest difference to OpenCLIP, and a device that
        computes in float32 is too slow to wait for decoders.
        """
        if self._fast_resize is None or not self._is_half_precision:
            return None
        return self._picture_pixels

    def tokenise(self, text: str) -> NDArray[np.int64]:
        """Return the token ids, (context length,), padded; any text is taken and cut to the model's
        context length, its end mark kept.
        """
        return self._tokenise(text)

    def resize(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop, in the caller's thread, to the model's size.

        The picture, RGB (height, width, 3) and of moderate proportions, is handled as by OpenCLIP's
        own evaluation transform of this model.
        """
        height, width = picture.shape[:2]
        is_small = min(height, width) < self._picture_pixels
        if self._fast_resize is None or is_small or height > MAX_FAST_HEIGHT * width:
            image = Image.fromarray(picture)
            for step in self._resize_and_crop:
                image = step(image)
            return np.asarray(image, dtype=np.uint8)
        # A view: torch's kernel takes rows of whole pixels as they are, and any other layout at
        # three times the cost. It runs in this thread alone, whatever torch's number of threads.
        pixels = torch.from_numpy(picture).permute(2, 0, 1)
        for step in (self._fast_resize, *self._resize_and_crop[1:]):
            pixels = step(pixels)
        prepared: NDArray[np.uint8] = pixels.permute(1, 2, 0).contiguous().numpy()
        return prepared


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
