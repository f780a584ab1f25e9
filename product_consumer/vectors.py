"""Arithmetic on the embeddings of a whole batch at once.

numpy releases the GIL around every operation on more than 500 numbers. While other threads are
busy, taking the GIL again costs more than an operation on one embedding. So one operation serves
all embeddings of a batch, and no loop here calls numpy once per embedding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]
"""A unit vector: float32, shape (dimension,)."""

_SHORTEST_SUM = 1e-6
"""Image and text cancel out when their sum is no longer than this."""


def pack(embeddings: Sequence[Embedding]) -> list[bytes]:
    """Return each embedding as bytes of float16: half the size, 1 - cosine under 1e-6."""
    return [row.tobytes() for row in stack(embeddings).astype(np.float16)]


def unpack(packed: Sequence[bytes]) -> list[Embedding]:
    """Return the embeddings that ``pack`` packed, of unit length again.

    Raises ``ValueError`` where their dimensions differ.
    """
    # Rounding to float16 moved the length by up to 5e-4; readers are promised unit length.
    wide = _rows(packed, np.float16).astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    lengths[lengths == 0] = 1
    wide /= lengths[:, None]
    return list(wide)


def combine(texts: Sequence[Embedding], images: Sequence[Embedding]) -> list[Embedding]:
    """Return the normalised mean of each text and image; the text where the two cancel out.

    Raises ``ValueError`` where dimensions differ.
    """
    text_rows = stack(texts)
    total = text_rows + stack(images)
    lengths = np.sqrt(np.einsum("ij,ij->i", total, total))
    cancelled = lengths <= _SHORTEST_SUM
    total[cancelled], lengths[cancelled] = text_rows[cancelled], 1
    total /= lengths[:, None]
    return list(total)


def stack(vectors: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return vectors as the rows of one read-only float32 array, shape (count, dimension).

    Raises ``ValueError`` where their dimensions differ.
    """
    # numpy's own stack releases the GIL once per row.
    return _rows([np.ascontiguousarray(vector, np.float32) for vector in vectors], np.float32)


def _rows(vectors: Sequence[Any], dtype: type[np.floating]) -> NDArray[Any]:
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("vectors of different dimensions in one batch")
    return np.frombuffer(b"".join(vectors), dtype=dtype).reshape(len(vectors), -1 if vectors else 0)
