"""Text from outside: its digits, where it is cut, and how it is quoted on a terminal."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from product_consumer.text import (
    MAX_EXCERPT_CHARACTERS,
    cut_to_bytes,
    excerpt,
    plain_digits,
    printable,
)

ENCODABLE_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def digits_by_definition(text: str) -> str:
    """The slow way: one character after another."""
    normal = unicodedata.normalize("NFKC", text)
    visible = (letter for letter in normal if unicodedata.category(letter) != "Cf")
    digits = (str(unicodedata.decimal(c)) if c.isdecimal() else c for c in visible)
    return " ".join("".join(digits).split())


@given(st.text())
@example("1.000\N{DONG SIGN}")
@example("\N{ARABIC-INDIC DIGIT ONE}\N{FULLWIDTH DIGIT TWO}\N{ZERO WIDTH SPACE}3")
@example(" 4.8\t\n")
@example("\x1c1\x85 2\xa0")
def test_digits_are_those_of_the_definition(text: str):
    assert plain_digits(text) == digits_by_definition(text)


@pytest.mark.parametrize("text", ["4.8", "1,520", "\N{DEVANAGARI DIGIT FOUR}.8"])
def test_digits_come_out_as_ascii(text: str):
    assert plain_digits(text).isascii()


@given(ENCODABLE_TEXT, st.integers(0, 40))
def test_cut_text_is_the_longest_beginning_that_fits(text: str, max_bytes: int):
    cut = cut_to_bytes(text, max_bytes)

    assert text.startswith(cut)
    assert len(cut.encode()) <= max_bytes
    assert cut == text or len(text[: len(cut) + 1].encode()) > max_bytes


def test_a_lone_surrogate_is_cut_to_a_question_mark():
    assert cut_to_bytes("a\ud800b", 10) == "a?b"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("line\r\nbreak", r"line\r\nbreak"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj", r"\u202egpj"),
        ("zero\N{ZERO WIDTH SPACE}width", r"zero\u200bwidth"),
        ("a\ud800b", r"a\ud800b"),
        ("\N{LANGUAGE TAG}", r"\U000e0001"),
        ("Áo thun 1.299.000₫", "Áo thun 1.299.000₫"),
    ],
    ids=["line break", "colour", "direction", "invisible", "surrogate", "astral", "printable"],
)
def test_characters_that_a_terminal_obeys_are_escaped(text: str, escaped: str):
    assert printable(text) == escaped


@given(st.text())
def test_an_excerpt_is_short_and_printable(text: str):
    quoted = excerpt(text)

    assert quoted.isprintable()
    assert len(quoted) <= MAX_EXCERPT_CHARACTERS + len('""')


def test_an_excerpt_says_where_it_ends():
    assert excerpt("x" * 201) == '"' + "x" * 197 + '..."'
