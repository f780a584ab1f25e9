"""Arithmetic on the vectors of a whole batch at once.

numpy gives up the GIL around every operation on more than 500 numbers. Where other threads are
busy, taking it again costs more than an operation on one vector does: so one operation serves all
vectors of a batch, and nothing here loops over them in numpy's calls.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]
"""A unit vector: float32, shape (dimension,)."""

_SHORTEST_SUM = 1e-6


def pack(embeddings: Sequence[Embedding]) -> list[bytes]:
    """Return the vectors as float16: half the size, 1 - cosine under 1e-6."""
    return [row.tobytes() for row in stack(embeddings).astype(np.float16)]


def unpack(packed: Sequence[bytes]) -> list[Embedding]:
    """Return the vectors that ``pack`` packed, all of one dimension, of unit length again."""
    # Rounding to float16 moved the length by up to 5e-4; readers are promised unit length.
    wide = _rows(packed, np.float16).astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    lengths[lengths == 0] = 1
    wide /= lengths[:, None]
    return list(wide)


def combine(texts: Sequence[Embedding], images: Sequence[Embedding]) -> list[Embedding]:
    """Return the normalised mean of each image and text; the text where the two cancel out."""
    first = stack(texts)
    total = first + stack(images)
    lengths = np.sqrt(np.einsum("ij,ij->i", total, total))
    cancelled = lengths <= _SHORTEST_SUM
    total[cancelled], lengths[cancelled] = first[cancelled], 1
    total /= lengths[:, None]
    return list(total)


def stack(vectors: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return vectors of one dimension as the rows of one array, which is read only."""
    # numpy's own stack gives up the GIL once per row.
    return _rows([np.ascontiguousarray(vector, np.float32) for vector in vectors], np.float32)


def _rows(parts: Sequence[Any], dtype: type[np.floating]) -> NDArray[Any]:
    if len({len(part) for part in parts}) > 1:
        raise ValueError("vectors of different dimensions in one batch")
    return np.frombuffer(b"".join(parts), dtype=dtype).reshape(len(parts), -1 if parts else 0)
