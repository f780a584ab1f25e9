"""Picture and name to what the model takes: pixels of its size and token ids.

This is done in the consumer threads, so that the model's thread never waits for it.
"""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import Resize, v2

from product_consumer.model_loading import LoadedModel

# Models of pictures from this size on may use the fast resize: among so many pixels a rounding here
# and there moves a vector far less than bfloat16 does. Smaller models show it.
FAST_RESIZE_PIXELS = 224
# The longest entry of OpenCLIP's vocabulary has 32 characters. A longer text than this cannot
# reach the vectors, but takes time that grows with the square of its longest word.
CHARACTERS_PER_TOKEN = 33
# The tokenizer remembers every word it ever saw.
MAX_REMEMBERED_WORDS = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class PreparedItem:
    """What the model thread needs of one item; a search has only one of the two sides."""

    pixels: NDArray[np.uint8] | None
    """RGB, (height, width, 3), of the model's own size."""
    tokens: NDArray[np.int64] | None
    """Token ids, (context length,), padded."""


class Preparer:
    """Resizes, crops and tokenises as OpenCLIP does for one model; for any number of threads."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._picture_pixels = max(loaded.preprocess.input_size[1:])
        self._resize_and_crop = _resize_and_crop(loaded)
        self._fast_resize = _fast_resize(loaded, self._resize_and_crop[0])
        self._tokenizer_lock = threading.Lock()

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
