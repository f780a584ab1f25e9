"""Image and name -> the model's input: pixels of its size and token ids.

Consumer threads do this work, so that the model thread never waits for it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import Resize, v2

from product_consumer.embedding.loading import LoadedModel
from product_consumer.embedding.spec import ModelSettings, preprocessing_of, resolve_model
from product_consumer.embedding.tokenizer import make_tokenizer

# Models of images of at least this size may use the fast resize: among so many pixels, a few
# roundings move an embedding far less than bfloat16 does. In smaller models they are visible.
FAST_RESIZE_PIXELS = 224
# Pillow shrinks a taller image's height before its width and rounds in between; torch begins with
# the width. There they differ in an eighth of the values, otherwise in one of 300.
MAX_FAST_HEIGHT = 2


@dataclass(frozen=True, slots=True, eq=False)
class PreparedItem:
    """The model's input for one item. A product has both sides, a search only one."""

    pixels: NDArray[np.uint8] | None
    """RGB, uint8, shape (height, width, 3), of the model's own size."""
    tokens: NDArray[np.int64] | None
    """Token ids, int64, shape (context length,), padded."""
    is_trial: bool = False
    """True for an item that tries the model: an invalid embedding of it is returned as it is."""


class ImageResizer:
    """Resizes and crops images for one model, with the results of OpenCLIP. Thread-safe.

    ``transform``: OpenCLIP's own evaluation transform. ``is_half_precision``: whether the model
    computes in float16 or bfloat16.
    """

    def __init__(
        self, preprocess: PreprocessCfg, transform: Any, *, is_half_precision: bool
    ) -> None:
        self._is_half_precision = is_half_precision
        self._side_pixels: int = max(preprocess.input_size[1:])
        self._resize_and_crop = _resize_and_crop(transform)
        self._fast_resize = _fast_resize(preprocess, self._resize_and_crop[0])

    @property
    def shorter_side_pixels(self) -> int | None:
        """Target size of an image's shorter side, for ``ImageDecoder.decode``; None: full size.

        Decoding a large JPEG at half its size saves a quarter of the CPU time of decoding and
        resizing. Pixels differ by 0.2 grey levels on average. bfloat16 rounds every pixel by as
        much. In float32 it would be the largest difference to OpenCLIP, and a device that computes
        in float32 is too slow to wait for decoders.
        """
        if self._fast_resize is None or not self._is_half_precision:
            return None
        return self._side_pixels

    def resize(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop an image to the model's size, as OpenCLIP's evaluation transform does.

        Takes and returns RGB, uint8, shape (height, width, 3). The longer side is at most
        ``MAX_ASPECT`` of the decoder times the shorter.
        """
        height, width = pixels.shape[:2]
        is_small = min(height, width) < self._side_pixels
        if self._fast_resize is None or is_small or height > MAX_FAST_HEIGHT * width:
            image = Image.fromarray(pixels)
            for step in self._resize_and_crop:
                image = step(image)
            return np.asarray(image, dtype=np.uint8)
        # A view: torch's kernel takes rows of whole pixels as they are; any other layout costs
        # three times as much. It runs in this thread alone, also with many torch threads.
        channels = torch.from_numpy(pixels).permute(2, 0, 1)
        for step in (self._fast_resize, *self._resize_and_crop[1:]):
            channels = step(channels)
        prepared: NDArray[np.uint8] = channels.permute(1, 2, 0).contiguous().numpy()
        return prepared


class Preparer:
    """Resizes, crops and tokenises for one model, with the results of OpenCLIP.

    Any number of threads may use it; it does not take the model lock.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._resizer = ImageResizer(
            loaded.preprocess, loaded.transform, is_half_precision=loaded.dtype != torch.float32
        )
        self.shorter_side_pixels = self._resizer.shorter_side_pixels
        """See ``ImageResizer``."""
        self._tokenise = make_tokenizer(loaded.tokenizer, loaded.context_length)

    def tokenise(self, text: str) -> NDArray[np.int64]:
        """Return the token ids of any text: int64, shape (context length,), padded.

        A text that is too long is cut; its end token is kept.
        """
        return self._tokenise(text)

    def resize(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop an image to the model's size; see ``ImageResizer``."""
        return self._resizer.resize(pixels)


def load_resizer(settings: ModelSettings) -> ImageResizer:
    """Return the resizer of the model that the settings name, without building the model.

    Raises ``ConfigurationError`` as ``resolve_model``.
    """
    preprocess = preprocessing_of(resolve_model(settings))
    transform = image_transform_v2(preprocess, is_train=False)
    return ImageResizer(preprocess, transform, is_half_precision=False)


def _resize_and_crop(transform: Any) -> list[Any]:
    """Return the steps of OpenCLIP's transform before it turns the image into floats."""
    kinds = [type(step).__name__ for step in transform.transforms]
    return list(transform.transforms[: kinds.index("MaybeConvertMode")])


def _fast_resize(preprocess: PreprocessCfg, resize: object) -> v2.Resize | None:
    """Return the same antialiased filter on a byte tensor, at a third of Pillow's CPU time.

    When an image is made smaller, rounding between the two passes differs, by two grey levels at
    most. None for a model that this would change too much, or with another filter.
    """
    is_large = min(preprocess.input_size[1:]) >= FAST_RESIZE_PIXELS
    if not is_large or not isinstance(resize, Resize) or preprocess.interpolation != "bicubic":
        return None
    return v2.Resize(resize.size, interpolation=resize.interpolation, antialias=True)
