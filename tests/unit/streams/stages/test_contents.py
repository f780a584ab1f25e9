"""What a message is, told by its content: producers in the field say little, and some say wrong."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import RejectMessage
from product_consumer.streams.stages.contents import (
    Content,
    Features,
    Picture,
    Row,
    Words,
    read_content,
)
from tests.support.factories import encoded, image
from tests.support.stages import stream_message

MAX_BYTES = 1024 * 1024
JPEG = encoded(image(), "JPEG")
PIXELS = bytes(range(240))


def read(body: str | bytes, **envelope: Any) -> Content:
    return read_content(stream_message(body, **envelope), MAX_BYTES)


def refused(body: str | bytes, **envelope: Any) -> str:
    with pytest.raises(RejectMessage) as caught:
        read(body, **envelope)
    return caught.value.reason


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json"])
def test_a_picture_file_is_known_by_its_first_bytes(name: str, content_type: str) -> None:
    data = encoded(image(), name)

    assert read(data, content_type=content_type) == Picture(data)


def test_a_picture_file_may_come_with_its_size() -> None:
    assert read(JPEG, headers={"image_size": [16, 16, 3]}) == Picture(JPEG)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ([8, 10, 3], (8, 10, 3)),
        ("[8, 10, 3]", (8, 10, 3)),
        ("(8, 10, 3)", (8, 10, 3)),
        ("8x10x3", (8, 10, 3)),
        ("8,10,3", (8, 10, 3)),
        (b"[8, 10, 3]", (8, 10, 3)),
        ([12, 20], (12, 20, 1)),
        ([12, 20, 1], (12, 20, 1)),
        ([6, 10, 4], (6, 10, 4)),
    ],
)
def test_raw_pixels_are_known_by_their_size_whatever_their_type_says(
    size: object, shape: tuple[int, int, int]
) -> None:
    content = read(PIXELS, headers={"image_size": size}, content_type="image/jpeg")

    assert content == Picture(PIXELS, shape, is_file=False)


def test_raw_pixels_that_are_text_by_chance_are_raw_pixels() -> None:
    assert read("A" * 240, headers={"image_size": [8, 10, 3]}) == Picture(
        b"A" * 240, (8, 10, 3), is_file=False
    )


def test_raw_pixels_may_be_larger_than_a_file() -> None:
    pixels = bytes(3 * MAX_BYTES)

    content = read(pixels, headers={"image_size": [1024, 1024, 3]})

    assert content == Picture(pixels, (1024, 1024, 3), is_file=False)


def test_raw_pixels_that_begin_as_a_file_by_chance_are_tried_as_both() -> None:
    pixels = b"\xff\xd8\xff" + PIXELS[3:]

    assert read(pixels, headers={"image_size": [8, 10, 3]}) == Picture(pixels, (8, 10, 3))


@pytest.mark.parametrize(
    "size",
    [
        [8, 10, 4],
        [-8, -10, 3],
        [8, 10, -3],
        [0, 10, 3],
        [10**30, 10**30, 3],
        ["8", "10", "3"],
        [8.5, 10, 3],
        [True, 240, 1],
        [8, 10, 2],
        [240],
        [2, 2, 2, 30],
        [],
        "",
        "many",
        "[-8, 10, 3]",
        "9" * 5000,
        {"height": 8},
        None,
        240,
    ],
)
def test_a_size_that_is_none_or_does_not_fit_is_refused(size: object) -> None:
    reason = refused(PIXELS, headers={"image_size": size})

    assert reason == ("not_an_image" if size is None else "image_size")


@pytest.mark.parametrize(
    "body",
    [
        {"image_name": "a.jpg", "image": base64.b64encode(JPEG).decode()},
        {"image_name": "a.jpg", "image": base64.urlsafe_b64encode(JPEG).decode().rstrip("=")},
        {"image_name": "a.jpg", "image": base64.encodebytes(JPEG).decode()},
        {
            "image_name": "a.jpg",
            "image": "data:image/jpeg;base64," + base64.b64encode(JPEG).decode(),
        },
    ],
)
def test_base64_in_json_is_a_picture(body: dict[str, str]) -> None:
    assert read(json.dumps(body)) == Picture(JPEG, filename="a.jpg")


def test_the_fields_look_alikes_are_pictures() -> None:
    body = {"id": 7, "image": base64.b64encode(JPEG).decode(), "models": ["a", "b"]}

    assert read(json.dumps(body), content_type="image/jpeg") == Picture(JPEG)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("not base64!", "image_base64"),
        ("https://cdn.example/a.jpg", "image_base64"),
        ("", "not_an_image"),
        (base64.b64encode(b"text").decode(), "not_an_image"),
    ],
)
def test_what_is_no_picture_in_json_is_refused(image: str, reason: str) -> None:
    assert refused(json.dumps({"image": image})) == reason


@pytest.mark.parametrize(
    "text",
    ["word", "BMW", "GIF89a", "{", "{}", "[1]", "42", "{x: 1}", "é日本", "a\tb\n", '{"'],
)
def test_words_are_words_even_where_they_begin_as_something_else(text: str) -> None:
    assert read(text.encode()) == Words(text.strip())


def test_a_text_is_trimmed_and_composed() -> None:
    assert read("  cafe\u0301 \n") == Words("café")


def test_our_own_text_stays_a_text_although_it_is_json() -> None:
    assert read('{"a": 1}', headers={"kind": "text"}) == Words('{"a": 1}')


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain"])
def test_an_object_is_a_record(content_type: str) -> None:
    assert read('{"a": NaN, "b": 2}', content_type=content_type) == Row({"a": None, "b": 2})


def test_an_object_that_was_written_twice_is_a_record() -> None:
    twice = json.dumps(json.dumps({"a": 1}))

    assert read(twice, content_type="application/json") == Row({"a": 1})
    assert read(twice) == Words(twice)


@pytest.mark.parametrize(
    ("body", "envelope", "reason"),
    [
        (b"", {}, "body_empty"),
        (" \n ", {}, "body_empty"),
        (b"\x00\xff\xfe\x01", {}, "not_an_image"),
        ("a text", {"content_type": "image/jpeg"}, "not_an_image"),
        ("a text", {"headers": {"image_size": [2, 2, 3]}}, "image_size"),
        ("a text", {"content_encoding": "gzip"}, "content_encoding"),
        ("a text", {"content_type": "application/json"}, "json_invalid"),
        ("[1]", {"content_type": "application/json"}, "json_not_object"),
        ('{"a": 1e400}', {}, "number_range"),
        ('{"a": 1', {}, "json_invalid"),
        ('{"a": {"b": 1}}', {}, "nested"),
        ("x" * (MAX_BYTES * 2), {}, "too_large"),
        (JPEG + bytes(MAX_BYTES), {}, "too_large"),
    ],
)
def test_what_is_nothing_of_these_is_refused_with_a_reason(
    body: str | bytes, envelope: dict[str, Any], reason: str
) -> None:
    assert refused(body, **envelope) == reason


def test_features_of_another_stage_are_of_unit_length() -> None:
    body = {"kind": "image_features", "model": "m", "vector": [3, 4.0], "source": {"filename": "f"}}

    content = read(json.dumps(body))

    assert isinstance(content, Features)
    assert (content.kind, content.model, content.filename) == ("image_features", "m", "f")
    assert content.vector.tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("vector", [None, [], "x", [1, "2"], [True], [0, 0], [[1]]])
def test_features_without_a_vector_are_refused(vector: object) -> None:
    assert refused(json.dumps({"kind": "text_features", "vector": vector})) == "features_invalid"


@pytest.mark.parametrize("number", [1e200, 1e-320, 10**300])
def test_numbers_of_any_size_make_a_unit_vector(number: float) -> None:
    content = read(json.dumps({"kind": "text_features", "vector": [number, 0]}))

    assert isinstance(content, Features)
    assert content.vector.tolist() == [1.0, 0.0]


HEADERS = st.dictionaries(
    st.sampled_from(["image_size", "kind", "filename"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(), st.lists, max_leaves=5
    ),
)


@given(st.binary(max_size=300) | st.text(max_size=300), HEADERS, st.text(max_size=30))
def test_any_message_is_read_or_refused(
    body: str | bytes, headers: dict[str, object], content_type: str
) -> None:
    try:
        assert read(body, headers=headers, content_type=content_type)
    except RejectMessage as error:
        assert error.reason
