"""The quick ways through text do what the plain definitions say."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from product_consumer.text import plain_digits


def digits_by_definition(text: str) -> str:
    """Character by character, whatever it is."""
    normal = unicodedata.normalize("NFKC", text)
    visible = (each for each in normal if unicodedata.category(each) != "Cf")
    digits = (str(unicodedata.decimal(each)) if each.isdecimal() else each for each in visible)
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
