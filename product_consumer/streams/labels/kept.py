"""Embeddings of labels in a file, so that a start need not make them again.

The file appears whole or not at all, and is checked when it is read: a file that is damaged or of
something else is made again.
"""

import hashlib
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from product_consumer.streams.labels.reading import LabelFile

log = logging.getLogger(__name__)

_FORMAT = "1"
_NAME = "labels"
_TOLERANCE = 1e-3


class KeptLabels:
    """The file of the embeddings of one list of labels by one model.

    ``directory``: made when it is missing. ``templates``: the name of the prompt ensemble.
    """

    def __init__(
        self, directory: Path, file: LabelFile, templates: str, model_id: str, dimension: int
    ) -> None:
        self._shape = (len(file.prompts), dimension)
        self._about = {
            "format": _FORMAT,
            "labels": file.digest,
            "model_id": model_id,
            "templates": templates,
        }
        name = hashlib.sha256("\n".join(self._about.values()).encode()).hexdigest()[:32]
        self._path = directory / f"labels-{name}.safetensors"

    def read(self) -> NDArray[np.float32] | None:
        """Return what was written; None where nothing was, or it is of no use."""
        if not self._path.exists():
            return None
        try:
            with safe_open(self._path, framework="numpy") as file:
                about, rows = dict(file.metadata() or {}), file.get_tensor(_NAME)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            log.warning("Labels are embedded again: %s: %s", self._path, error)
            return None
        if about != self._about | {"sha256": _digest(rows)} or not self._is_sound(rows):
            log.warning("Labels are embedded again: %s is damaged", self._path)
            return None
        return np.array(rows)

    def write(self, rows: NDArray[np.float32]) -> None:
        """Write the embeddings; a directory that cannot be written costs time at the next start."""
        content = save({_NAME: rows}, self._about | {"sha256": _digest(rows)})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(self._path, content)
        except OSError as error:
            log.warning("Labels will be embedded again at the next start: %s", error)

    def _is_sound(self, rows: NDArray[np.float32]) -> bool:
        if rows.dtype != np.float32 or rows.shape != self._shape:
            return False
        return bool(np.all(np.abs(np.linalg.norm(rows, axis=1) - 1) < _TOLERANCE))


def _digest(rows: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".labels-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
