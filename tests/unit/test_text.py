"""Text from outside: its digits, where it is cut, and how it is quoted on a terminal."""

import html
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from product_consumer.text import (
    MAX_EXCERPT_CHARACTERS,
    clean_label,
    cut_to_bytes,
    excerpt,
    plain_digits,
    printable,
    without_half_at_the_end,
    without_halves,
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


@given(st.text(st.characters(exclude_categories=())))
def test_text_without_halves_can_be_stored_as_utf_8(text: str):
    whole = without_halves(text)

    assert whole.encode().decode() == whole
    assert without_halves(whole) == whole


@given(ENCODABLE_TEXT)
def test_whole_text_is_not_mended(text: str):
    assert without_halves(text) == without_half_at_the_end(text) == text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Cr&egrave;me br&ucirc;l&eacute;e", "Crème brûlée"),
        ("Salt &amp; pepper", "Salt & pepper"),
        ("Salt &amp;amp; pepper", "Salt & pepper"),
        ("Salt &AMP; pepper", "Salt & pepper"),
        ("Caf&#233; &#xE9; &#xe9;", "Café é é"),
        ("Tom&#39s &quot;best&quot;", 'Tom\'s "best"'),
        ("a &amp b &amp", "a & b &"),
        ("&nbsp;Mug&nbsp;", "Mug"),
        ("1 &lt; 2", "1 < 2"),
        ("Waschma&shy;schine", "Waschmaschine"),
        ("Wasch\u00adma\u00adschine", "Waschmaschine"),
        ("\ufeffMug", "Mug"),
        ("fish&chips; dollars&cents", "fish&chips; dollars&cents"),
        ("H&M AT&T R&D; Q&A", "H&M AT&T R&D; Q&A"),
        ("?a=1&copy=2&amp=3", "?a=1&copy=2&amp=3"),
        ("کتاب\u200cخانه", "کتاب\u200cخانه"),  # noqa: RUF001
        ("a\u200bb \u202egpj", "a\u200bb \u202egpj"),
        ("\N{MAN}\u200d\N{WOMAN}", "\N{MAN}\u200d\N{WOMAN}"),
        ("<b>Mug</b>", "<b>Mug</b>"),
        ("&#0;&#xD800;&#x7FFFFF;", "\ufffd\ufffd\ufffd"),
        ("a&#27;&#1;b", "ab"),
    ],
)
def test_a_label_is_cleaned_as_a_page_shows_it(written: str, shown: str):
    assert clean_label(written) == shown


@given(ENCODABLE_TEXT, st.integers(1, 2))
def test_an_escaped_label_is_the_same_label(text: str, times: int):
    escaped = text.replace("&", "+")
    plain = clean_label(escaped)
    for _ in range(times):
        escaped = html.escape(escaped)

    assert clean_label(escaped) == plain


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
