import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.streams.anomaly.state import State, StateUnusable, decode, encode

STATE = State(
    queue="sensors/é\n",
    detector="relation",
    chosen=(),
    names=("a", "b\ud800", ""),
    seen=1234,
    warming_up=False,
    arrays={"scores": np.array([1.0, 2.5]), "rows": np.array([[np.nan, 1e100]])},
)
CONTENT = encode(STATE)


def test_a_state_comes_back_as_it_was() -> None:
    read = decode(CONTENT)
    assert replace(read, arrays={}) == replace(STATE, arrays={})
    assert read.arrays.keys() == STATE.arrays.keys()
    for name, array in STATE.arrays.items():
        assert np.array_equal(read.arrays[name], array, equal_nan=True)


@given(st.integers(0, len(CONTENT) - 1), st.binary(max_size=30))
def test_whatever_is_damaged_is_unusable_or_read(place: int, damage: bytes) -> None:
    for content in (CONTENT[:place] + damage + CONTENT[place + len(damage) :], CONTENT[:place]):
        try:
            decode(content)
        except StateUnusable as error:
            assert "\n" not in str(error)


@given(st.binary(max_size=200))
def test_any_other_file_is_unusable(content: bytes) -> None:
    with pytest.raises(StateUnusable):
        decode(content)


def file_of(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def header(**changes: object) -> np.ndarray:
    with np.load(io.BytesIO(CONTENT)) as file:
        fields = json.loads(bytes(file["header"])) | changes
    return np.frombuffer(json.dumps(fields).encode(), np.uint8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (file_of(header=header(version=2)), "another version"),
        (file_of(header=header(format="other")), "no state of a detector"),
        (file_of(a=np.zeros(1)), "damaged"),
        (file_of(header=header(seen=-1)), "not of the expected form"),
        (file_of(header=header(seen=True)), "not of the expected form"),
        (file_of(header=header(names=[1])), "not of the expected form"),
        (file_of(header=header(names=["a", "a"])), "not of the expected form"),
        (file_of(header=header(names=[str(number) for number in range(201)])), "expected form"),
        (file_of(header=header(), scores=np.array([np.inf])), "not of the expected form"),
        (file_of(header=header(), scores=np.array(["text"])), "not of the expected form"),
        (file_of(header=header(), scores=np.array([print])), "damaged"),
    ],
)
def test_a_file_of_another_form_is_unusable(content: bytes, reason: str) -> None:
    with pytest.raises(StateUnusable, match=reason):
        decode(content)
