"""What a detector has learnt, as a file of numbers: numpy's ``npz`` and one array of JSON.

Nothing in it is ever run: pickles are refused. Whatever else a file holds raises ``StateUnusable``.
"""

import io
import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from product_consumer.errors import ProductConsumerError
from product_consumer.streams.anomaly.features import MAX_FEATURES, MAX_NAME_CHARACTERS
from product_consumer.streams.anomaly.scoring.base import Floats

FORMAT: Final = "product-consumer anomaly state"
VERSION: Final = 1
MAX_STATE_BYTES: Final = 64 * 1024 * 1024
_HEADER = "header"


class StateUnusable(ProductConsumerError):
    """Raised for a file that cannot be gone on with; its text says why."""


@dataclass(frozen=True, slots=True)
class State:
    """All that a detector needs to go on."""

    queue: str
    detector: str
    """``relation`` or ``distribution``."""
    chosen: tuple[str, ...]
    """The names of ``--features``."""
    names: tuple[str, ...]
    """The features, in the order of the columns."""
    seen: int
    warming_up: bool
    arrays: dict[str, Floats]


def encode(state: State) -> bytes:
    """Return the content of a file."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "queue": state.queue,
        "detector": state.detector,
        "chosen": state.chosen,
        "names": state.names,
        "seen": state.seen,
        "warming_up": state.warming_up,
    }
    text = np.frombuffer(json.dumps(header).encode("ascii"), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **{_HEADER: text}, **state.arrays)
    return file.getvalue()


def decode(content: bytes) -> State:
    """Return the state in a file; raises ``StateUnusable``."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            header = json.loads(bytes(file[_HEADER]))
            _check_header(header)
            arrays = {name: file[name] for name in file.files if name != _HEADER}
            return _state_of(header, arrays)
    except StateUnusable:
        raise
    # zipfile, zlib, struct, numpy and json raise two dozen kinds of errors at broken files.
    except Exception as error:
        raise StateUnusable(f"it is damaged ({type(error).__name__})") from error


def _check_header(header: Any) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StateUnusable("it is no state of a detector")
    if header.get("version") != VERSION:
        raise StateUnusable("another version of this program wrote it")


def _state_of(header: dict[str, Any], arrays: dict[str, Floats]) -> State:
    state = State(
        queue=header["queue"],
        detector=header["detector"],
        chosen=tuple(header["chosen"]),
        names=tuple(header["names"]),
        seen=header["seen"],
        warming_up=header["warming_up"],
        arrays=arrays,
    )
    names = (*state.names, *state.chosen)
    are_names = all(isinstance(name, str) and len(name) <= MAX_NAME_CHARACTERS for name in names)
    are_counts = type(state.seen) is int and state.seen >= 0 and type(state.warming_up) is bool
    are_numbers = all(
        array.dtype == np.float64 and not np.isinf(array).any() for array in arrays.values()
    )
    is_distinct = len(set(state.names)) == len(state.names) <= MAX_FEATURES
    if not (are_names and are_counts and are_numbers and is_distinct):
        raise StateUnusable("its content is not of the expected form")
    return state
