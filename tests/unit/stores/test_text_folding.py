import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.stores.text_folding import fold, words


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("Áo thun nam cổ tròn", "ao thun nam co tron"),
        ("Đầm dạ hội", "dam da hoi"),
        ("Smørrebrød", "smorrebrod"),
        ("Łódź", "lodz"),
        ("Straße", "strasse"),
        ("Œuf à l'Æther", "oeuf a l aether"),
        ("Þórður", "thordur"),
        ("İSTANBUL \N{LATIN SMALL LETTER DOTLESS I}s", "istanbul is"),
        ("Ħobża", "hobza"),
        ("T-shirt_XL 100% cotton", "t shirt xl 100 cotton"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER F}ull ① m²", "full 1 m2"),
    ],
)
def test_words_are_found_as_a_person_types_them(written, typed):
    assert words(written) == typed.split()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_letters_are_the_same_word(form):
    assert words(unicodedata.normalize(form, "Đầm")) == ["dam"]


def test_chinese_characters_and_hiragana_are_one_word_each():
    assert words("红色手机 くつ") == ["红", "色", "手", "机", "く", "つ"]


@pytest.mark.parametrize("word", ["กินข้าว", "हिन्दी", "ガラス"])
def test_combining_characters_that_change_a_word_are_kept(word):
    assert words(word) == [unicodedata.normalize("NFC", word)]


@pytest.mark.parametrize("text", ["", "   ", "\0", "!?\"'*()", "\ud800", "😀"])
def test_text_without_letters_and_digits_has_no_words(text):
    assert words(text) == []


@given(st.text())
def test_folding_a_folded_text_changes_nothing(text):
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_words_hold_nothing_that_a_query_language_could_read(text):
    assert not any(set(word) & set("\"'*:^()+-{}[]~\\/ \0") for word in words(text))
