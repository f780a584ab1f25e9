"""What a failed call to Milvus means for the messages behind it."""

from enum import Enum, auto
from typing import Any

import grpc

from product_consumer.refusals import MILVUS, Refusal, find_refusal

# Codes of Milvus servers (pkg/util/merr/errors.go, the same from 2.3 on) and of Milvus Lite. Milvus
# Lite uses only 1 (unexpected), 6 (illegal argument), 100 and 101.
_NOT_LOADED = frozenset({101, 103})
_REFUSED = frozenset({6, 1100, 1101, 1102, 1804})
# Not ready, memory, requests, disk, rate, quota, delay, resources; cancelled and timed out.
_PASSING = frozenset({2, 3, 4, 5, 7, 8, 9, 11, 12, 10_000, 10_001})
# Collections, partitions, channels, segments, indexes, nodes, storage; message queue.
_PASSING_RANGES = (range(100, 1009), range(1200, 1304))
_PASSING_WORDS = ("Retry timeout", "should create connection first", "closed channel", "[Errno ")
"""Words of failures that come under the code for "unexpected": the client ran out of time or was
closed meanwhile, or the file system refused Milvus Lite."""

_REFUSED_STATUS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)


class Failure(Enum):
    """What a failed call was: each kind is handled differently."""

    PASSING = auto()
    NOT_LOADED = auto()
    REFUSED = auto()
    UNKNOWN = auto()


def classify(error: BaseException) -> Failure:
    """Return what an exception of the client or of gRPC means; ``UNKNOWN`` may be the row's fault
    or not.
    """
    status = _grpc_status(error)
    if status is not None:
        return Failure.REFUSED if status in _REFUSED_STATUS else Failure.PASSING
    code = getattr(error, "code", None)
    if code in _NOT_LOADED:
        return Failure.NOT_LOADED
    if code in _REFUSED:
        return Failure.REFUSED
    return Failure.PASSING if _is_passing(error, code) else Failure.UNKNOWN


def refusal_of(error: BaseException, words: str = "") -> Refusal | None:
    """Return the row of the table of refusals for an error; None where there is none."""
    status = _grpc_status(error)
    code = status.name if status is not None else str(getattr(error, "code", ""))
    return find_refusal(MILVUS, [code], words)


def describe(error: BaseException) -> str:
    """Return one line for a person: the server's own words, cut."""
    text = (
        getattr(error, "message", None) or getattr(error, "details", lambda: None)() or str(error)
    )
    return " ".join(str(text).split())[:300]


def _is_passing(error: BaseException, code: Any) -> bool:
    if getattr(error, "retriable", False) or code in _PASSING:
        return True
    if isinstance(code, int) and any(code in codes for codes in _PASSING_RANGES):
        return True
    return any(words in describe(error) for words in _PASSING_WORDS)


def _grpc_status(error: BaseException) -> grpc.StatusCode | None:
    # pymilvus lets some gRPC errors through, and puts the status of others where a code of Milvus
    # belongs. It says "Fail connecting" for a refused token too; only the cause tells them apart.
    for candidate in (error, error.__cause__):
        code = getattr(candidate, "code", None)
        code = code() if callable(code) else code
        if isinstance(code, grpc.StatusCode):
            return code
    return None
