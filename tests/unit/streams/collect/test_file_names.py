"""Names of files out of hostile text: what is left of them, and what never is."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from product_consumer.streams.collect.file_names import (
    MAX_NAME_BYTES,
    safe_id,
    safe_name,
    with_mark,
)

ALPHABET = './\\ :CONaux"*?\r\n\0é\u0301'
ANY_TEXT = st.text(st.characters(), max_size=300) | st.text(ALPHABET, max_size=30)
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{p}{n}" for p in ("COM", "LPT") for n in range(10))}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\cmd.exe", "cmd.exe"),
        ("folder/", ""),
        ("..", ""),
        ("", ""),
        (" . ", ""),
        (".bashrc", "bashrc"),
        ("a\0b\nc\x7fd\x85e.png", "abcde.png"),
        ('a<b>c:d"e|f?g*h.png', "abcdefgh.png"),
        ("invoice\u202egpj.exe", "invoicegpj.exe"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("name.  . ", "name"),
        ("CON", "_CON"),
        ("nul.jpg", "_nul.jpg"),
        ("com1 .tar.gz", "_com1 .tar.gz"),
        ("COM¹", "_COM¹"),
        ("conference.jpg", "conference.jpg"),
        ("ảnh sản phẩm.webp", "ảnh sản phẩm.webp"),
        ("👩\u200d🔧.png", "👩\u200d🔧.png"),
        ("\udcffa.png", "a.png"),
        ("a<\u0338.png", "a\u226e.png"),
    ],
)
def test_what_is_left_of_a_name(text: str, name: str) -> None:
    assert safe_name(text) == name


@given(ANY_TEXT)
@example("COM1" + " " * 200 + "x")
@example("." * 400)
@example("a" * 149 + "é")
@example("x" + "\u0301" * 5000)
@settings(max_examples=300)
def test_a_safe_name_is_safe_whatever_it_was_made_of(text: str) -> None:
    name = safe_name(text)

    assert not set(name) & set('/\\<>:"|?*')
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert name == unicodedata.normalize("NFC", name)
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert name.partition(".")[0].strip(" ").upper() not in DEVICES
    assert safe_name(name) == name


@pytest.mark.parametrize("stem", ["x" * 300, "é" * 300, "日" * 300])
def test_a_long_name_keeps_its_extension(stem: str) -> None:
    name = safe_name(f"{stem}.jpeg")

    assert name.endswith(f"{stem[0]}.jpeg")
    assert MAX_NAME_BYTES - 3 < len(name.encode()) <= MAX_NAME_BYTES


def test_what_follows_the_last_dot_of_a_long_name_may_be_no_extension() -> None:
    assert len(safe_name("a." + "b" * 300)) == MAX_NAME_BYTES


def test_an_id_that_is_safe_stays_as_it_is() -> None:
    assert safe_id("4f0c-17", 100) == "4f0c-17"


@given(st.tuples(ANY_TEXT, ANY_TEXT).filter(lambda pair: pair[0] != pair[1]))
@example(("a/1", "b/1"))
@example(("a" * 200, "a" * 201))
@settings(max_examples=200)
def test_two_ids_never_become_one(ids: tuple[str, str]) -> None:
    first, second = (safe_id(text, 60) for text in ids)

    assert first != second or first == ""
    assert len(first.encode()) <= 60


def test_a_mark_stands_before_the_extension() -> None:
    assert with_mark("a.tar.gz", "12ab") == "a.tar-12ab.gz"
    assert with_mark("passwd", "12ab") == "passwd-12ab"
