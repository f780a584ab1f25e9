"""Which file a message becomes, by its headers, its id and its bytes."""

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.models import Envelope, Message
from product_consumer.streams.collect.naming import Naming, PictureNaming, TextNaming
from tests.support import factories

JPEG = b"\xff\xd8\xff\xe0 and so on"
DIGEST = hashlib.sha256(JPEG).hexdigest()


def message(body: str | bytes = JPEG, **envelope: Any) -> Message:
    return factories.message(body, envelope=Envelope(**envelope))


def names(naming: Naming, message: Message) -> list[str]:
    body = message.body if isinstance(message.body, bytes) else message.body.encode()
    return [name for name, _ in zip(naming.names(message, body), range(4), strict=False)]


def test_a_picture_has_the_name_of_its_header_and_keeps_the_extension() -> None:
    found = names(PictureNaming(), message(message_id="17", headers={"filename": "in/photo.png"}))

    assert found[:2] == ["photo.png", f"photo-{DIGEST[:8]}.png"]


def test_a_picture_without_a_name_has_its_id() -> None:
    assert names(PictureNaming(), message(message_id="17"))[0] == "image_17.jpg"


@pytest.mark.parametrize(
    "filename", ["", "..", "folder/", b"a.jpg", ["a.jpg"], None, 7, {"a": "b"}, "\0\n"]
)
def test_a_header_that_is_no_name_is_as_none(filename: object) -> None:
    found = names(PictureNaming(), message(headers={"filename": filename}))

    assert found[0] == f"image_{DIGEST[:16]}.jpg"


def test_a_picture_that_is_none_is_kept_as_bin() -> None:
    assert names(PictureNaming(), message(b"raw", message_id="17"))[0] == "image_17.bin"


def test_a_word_has_its_id() -> None:
    assert names(TextNaming([]), message("the", message_id="17"))[0] == "word_17.txt"


def test_words_are_numbered_on_from_the_highest() -> None:
    naming = TextNaming(["word_9.txt", "word_41.txt", "word_x.txt", "word_1e9.txt", "other"])

    assert names(naming, message("the")) == [f"word_{n}.txt" for n in (42, 43, 44, 45)]
    assert next(iter(naming.names(message("the"), b"the"))) == "word_47.txt"
    assert not naming.is_repeatable(message("the"))


def test_a_text_has_the_name_of_its_file() -> None:
    whole = message("the whole text", message_id="17", headers={"filename": "notes.md"})

    assert names(TextNaming([]), whole)[0] == "notes.md"


def test_a_word_of_a_file_is_not_the_file() -> None:
    word = message("the", message_id="17", headers={"filename": "notes.md", "word": 3})

    assert names(TextNaming([]), word)[0] == "word_17.txt"


def test_what_is_not_utf_8_is_no_text() -> None:
    with pytest.raises(InvalidMessage, match="encoding"):
        TextNaming([]).check(message(b"caf\xe9"))
    with pytest.raises(InvalidMessage, match="content_encoding"):
        TextNaming([]).check(message(b"cafe", content_encoding="gzip"))


HEADERS = st.dictionaries(st.sampled_from(["filename", "word", "x"]), st.text() | st.integers())


@given(st.text(), HEADERS, st.binary(max_size=20))
@settings(max_examples=60)
def test_no_message_leaves_the_directory(message_id: str, headers: Any, body: bytes) -> None:
    hostile = message(body, message_id=message_id, headers=headers)

    for naming in (PictureNaming(), TextNaming([])):
        for name in names(naming, hostile):
            assert name not in ("", ".", "..")
            assert "/" not in name
            assert not name.startswith(".")
            assert len(name.encode()) <= 255
