import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.stores.text_folding import fold, visible, words


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


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("Geschirr\u00adspüler", "geschirrspüler"),
        ("Donau\u200bdampf\u200bschiff", "donaudampfschiff"),
        ("Donau\u2060dampf", "donaudampf"),
        ("کتاب\u200cخانه", "کتابخانه"),  # noqa: RUF001
        ("لا\u200d", "لا"),
        ("\u200fعربي\u200f \u202bx\u202c", "عربي x"),
        ("\u2066Mug\u2069", "mug"),
        ("\ufeffMug", "mug"),
        ("\u0dc1\u0dca\u200d\u0dbb\u0dd3", "\u0dc1\u0dca\u0dbb\u0dd3"),
        ("mug \u2764\ufe0f\u200d\N{FIRE}", "mug"),
    ],
)
def test_what_nobody_sees_parts_no_word(written, typed):
    assert words(written) == words(typed) == fold(typed).split()


def test_a_script_without_spaces_is_parted_where_its_writer_parted_it():
    assert words("กิน\u200bข้าว") == ["กิน", "ข้าว"]


@pytest.mark.parametrize(
    "seen",
    [
        "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}",
        "\u2764\ufe0f\u200d\N{FIRE}",
        "\N{WAVING BLACK FLAG}\U000e0067\U000e0062\U000e007f",
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
        "\u06dd١",  # noqa: RUF001
        "กิน\u200bข้าว",
        "Áo thun nam",
    ],
)
def test_what_is_seen_stays(seen):
    assert visible(seen) == seen


@given(st.text())
def test_a_visible_text_stays_as_it_is(text):
    assert visible(visible(text)) == visible(text)


@given(st.text(), st.sampled_from("\u00ad\u200c\u200e\u2060\ufeff"))
def test_an_invisible_character_between_two_letters_changes_no_search(text, mark):
    assert words(mark.join(["ge", "schirr"]) + text) == words("geschirr" + text)


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
