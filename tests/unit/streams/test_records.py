"""Records: what a body must be, and the line that it becomes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.models import NO_ENVELOPE, Envelope
from product_consumer.streams.records import MAX_COLUMNS, json_line, read_record


def test_what_python_writes_for_a_missing_value_is_null() -> None:
    body = json.dumps({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5, "e": "NaN"})

    assert json_line(read_record(body, NO_ENVELOPE)) == (
        '{"a": null, "b": null, "c": null, "d": 1.5, "e": "NaN"}'
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "json_invalid"),
        (b"a,b,c", "json_invalid"),
        (b"nan", "json_invalid"),
        (b"NaN", "json_not_object"),
        (b"[1, 2]", "json_not_object"),
        (b'"text"', "json_not_object"),
        (b'{"a": 1e400}', "number_range"),
        (b'{"a": -1e400}', "number_range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "number_range"),
        (b'{"a": {"b": 1}}', "nested"),
        (b'{"a": [1]}', "nested"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "nested"),
        (b'{"a": 1, "a": 2}', "json_duplicate_key"),
        (b'{"a": "caf\xe9"}', "encoding"),
        (b"\xff\xfe{\0}\0", "encoding"),
        (b'{"a": "' + b"x" * 1024 * 1024 + b'"}', "too_large"),
        (json.dumps(dict.fromkeys(map(str, range(10_000)), 1)).encode(), "too_many_columns"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:12]),
)
def test_what_is_no_record_is_rejected_with_a_reason(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        read_record(body, NO_ENVELOPE)

    assert raised.value.reason == reason


def test_as_many_columns_as_allowed_are_read() -> None:
    body = json.dumps(dict.fromkeys(map(str, range(MAX_COLUMNS)), 1))

    assert len(read_record(body, NO_ENVELOPE)) == MAX_COLUMNS


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1}',
        b'\xef\xbb\xbf{"a": 1}',
        b' \n{"a": 1}\n',
        json.dumps('{"a": 1}').encode(),
    ],
)
def test_one_record_written_in_many_ways(body: bytes) -> None:
    assert read_record(body, NO_ENVELOPE) == {"a": 1}


@pytest.mark.parametrize(("coding", "is_text"), [("UTF-8", True), ("gzip", False)])
def test_what_is_coded_is_no_text(coding: str, is_text: bool) -> None:
    envelope = Envelope(content_encoding=coding)
    if is_text:
        assert read_record(b"{}", envelope) == {}
    else:
        with pytest.raises(InvalidMessage, match=r"content_encoding: .gzip"):
            read_record(b"{}", envelope)


VALUES = st.text(st.characters()) | st.integers(-(10**30), 10**30) | st.booleans() | st.none()


@given(
    st.dictionaries(
        st.text(st.characters()), VALUES | st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_a_line_is_one_line_of_json_without_anything_that_steers_a_terminal(
    record: dict[str, object],
) -> None:
    for is_ascii in (False, True):
        line = json_line(record, is_ascii=is_ascii)  # type: ignore[arg-type]

        assert line.isprintable()
        assert not is_ascii or line.isascii()
        assert read_record(line, NO_ENVELOPE) == record
