"""A picture of a message -> RGB pixels, within the limits of ``images/decoder.py``."""

import numpy as np
from numpy.typing import NDArray

from product_consumer.errors import ImageRejected, ImageUnavailable
from product_consumer.images.decoder import ImageDecoder
from product_consumer.streams.stages.contents import Picture
from product_consumer.streams.stages.pixels import pixels_of


class PictureDecoder:
    """Decodes picture files and raw pixels. Any number of threads may use it.

    ``max_pixels``: width times height, the same as the decoder's own.
    """

    def __init__(self, decoder: ImageDecoder, max_pixels: int) -> None:
        self._decoder = decoder
        self._max_pixels = max_pixels

    def decode(self, picture: Picture, shorter_side_pixels: int | None = None) -> NDArray[np.uint8]:
        """Return a picture as RGB, uint8, shape (height, width, 3).

        Raises ``ImageRejected`` as ``ImageDecoder.decode`` and ``pixels_of``.
        """
        if picture.shape is None:
            return self._decode_file(picture.data, shorter_side_pixels)
        if picture.is_file:
            try:
                return self._decode_file(picture.data, shorter_side_pixels)
            except ImageRejected:
                # Pixels that begin as a file by chance.
                pass
        return pixels_of(picture.data, picture.shape, self._max_pixels)

    def _decode_file(self, data: bytes, shorter_side_pixels: int | None) -> NDArray[np.uint8]:
        try:
            return self._decoder.decode(data, shorter_side_pixels)
        except ImageUnavailable as error:
            # A download may be whole the next time. A message stays as it is.
            raise ImageRejected(error.reason, error.detail) from error
