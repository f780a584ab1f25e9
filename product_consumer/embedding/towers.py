"""The two towers of a model as functions on its device: pixels or token ids -> rows of features.

A batch of texts is cut to the length of its longest text, where that is exact. It is exact in a
causal text tower: no token up to the end token sees the padding behind it, and the embedding is
read at the end token.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.transformer import TextTransformer, text_global_pool
from torch import nn

from product_consumer.embedding.loading import LoadedModel

# Few lengths, so that few shapes are captured and measured; most product names have fewer than 30
# tokens.
SHORT_LENGTHS = (16, 32, 48)


class Towers:
    """The image tower and the text tower of one model.

    Both run on the model's device, in the caller's CUDA stream and under the caller's lock.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._mean = _channels(loaded.preprocess.mean, loaded.device)
        self._std = _channels(loaded.preprocess.std, loaded.device)
        self._text_tower = _causal_text_tower(loaded.model)
        context = loaded.context_length
        short = () if self._text_tower is None else SHORT_LENGTHS
        self.text_lengths = (*(length for length in short if length < context), context)
        """The lengths to which token ids may be cut, ascending; the last is the whole context."""

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float32 rows, shape (count, dimension), not normalised.

        ``pixels``: RGB, uint8, shape (count, height, width, 3).
        """
        # The same operations in the same order as ToTensor and Normalize, so results are equal.
        values = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)
        values.div_(255).sub_(self._mean).div_(self._std)
        features: torch.Tensor = self._loaded.model.encode_image(values.to(self._loaded.dtype))
        return features.float()

    def encode_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return float32 rows, shape (count, dimension), not normalised.

        ``tokens``: ids, int64, shape (count, length), a length of ``text_lengths``.
        """
        if self._text_tower is None or tokens.shape[1] == self._loaded.context_length:
            features: torch.Tensor = self._loaded.model.encode_text(tokens)
        else:
            features = _encode_short_texts(self._text_tower, tokens)
        return features.float()

    def cut(self, tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Stack token ids and cut them behind the last end token among them.

        ``tokens``: int64, shape (context,) each. Returns shape (count, length), a length of
        ``text_lengths``.
        """
        stacked = np.stack(tokens)
        if len(self.text_lengths) > 1:
            needed = int(stacked.argmax(axis=1).max()) + 1
            stacked = stacked[:, : next(n for n in self.text_lengths if n >= needed)]
        return stacked


def _causal_text_tower(model: Any) -> Any:
    """Return the module that embeds texts, if padding cannot reach its embeddings; else None.

    Three conditions: the mask hides later tokens, no class token is appended, and the embedding is
    read at the greatest id, which is the end token.
    """
    if type(model) is open_clip.CLIP:
        tower, pool_type = model, model.text_pool_type
    elif type(model) is open_clip.CustomTextCLIP and type(model.text) is TextTransformer:
        tower, pool_type = model.text, model.text.pool_type
    else:
        return None
    has_class_token = getattr(tower, "cls_emb", None) is not None
    is_causal = tower.attn_mask is not None
    return tower if is_causal and not has_class_token and pool_type == "argmax" else None


def _encode_short_texts(tower: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Do what OpenCLIP's ``encode_text`` does, but for texts shorter than the whole context."""
    length = tokens.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    positions = tower.positional_embedding[:length].to(dtype)
    rows = tower.token_embedding(tokens).to(dtype) + positions
    rows = tower.transformer(rows, attn_mask=tower.attn_mask[:length, :length])
    # The norm works row by row, and only the row of the end token is read.
    pooled: torch.Tensor = tower.ln_final(text_global_pool(rows, tokens, "argmax"))
    projection = tower.text_projection
    if projection is not None:
        pooled = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    return pooled


def _channels(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(1, 3, 1, 1)
