"""Token ids equal those of OpenCLIP's own tokenizer."""

import html
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import ftfy
import numpy as np
import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from product_consumer.embedding import tokenizer
from product_consumer.embedding.tokenizer import LockedTokenizer, QuickTokenizer, make_tokenizer
from product_consumer.text import clean_label

NASTY = [
    "",
    " ",
    "\t\r\n\f\v",
    "Áo thun nam cổ tròn \u2013 100% bông",
    "A\u0301o thun nam co\u0302\u0309 tro\u0300n",
    "قميص رجالي قطن \u0661\u0660\u0660٪ مقاس كبير",
    "メンズ　Ｔシャツ ｺｯﾄﾝ100\uff05",
    "男士纯棉圆领T恤\uff08大码\uff09",
    "남성용 면 티셔츠",
    "👨‍👩‍👧‍👦 family 🛒🛒 ❤️ 🇻🇳 👍🏽",
    "zero\u200bwidth\u200cjoiner\u200d\ufeff\u2060",
    "\x00\x01\x1b[31mred\x1b[0m\x7f bell\x07",
    "file\x1cgroup\x1drecord\x1eunit\x1f end",
    "next\x85line \x91quoted\x92",
    "Tom &amp;amp; Jerry&#39;s &lt;b&gt; &nbsp; &#xD800; &#0; &copy &unknown;",
    "&EACUTE;T&Eacute; &#x1F6D2; &AMP; &amp",
    "<b>5 < 6 &amp; 7</b>",
    "schÃ¶n cafÃ© â€œquotedâ€\x9d Ã la mode",
    "\u201ccurly\u201d \u2018quotes\u2019 don\u2019t",
    "ﬁne ﬂour ﬃ ĳ ŉ ǆ",
    "I'm you're they've he'll she'd it's can't 'S 'RE O'Reilly's",
    "'\u017f <\u017ftart_of_text> <START_OF_TEXT> \u212a\u0130\u0131",
    "<start_of_text>",
    "<end_of_text>",
    "<<start_of_text>> a<end_of_text>b <start_of_text>'s <start_of_textt>",
    "<|startoftext|> </w> a</w> ##ing Ġ ▁",
    "a" * 3000,
    "aaaa" * 7 + "b",
    "é" * 500,
    "🛒" * 500,
    "word " * 200,
    "1234567890 1,234.56 ½ ² Ⅷ ४२ ٣",
    "!!!???...---___***((())) $€£¥₫₽",
    "C++/C# node.js @user #tag user@example.com https://example.com/?a=1&b=2",
    "\ud800 \udc00 \ud83d\uded2 \udcff",
    "\U000e0041 \ufffe \uffff \U0010ffff \ue000",
    "\u0558 \u088f \u0c5c \ua7ce \U00010940",
    "ẞ ß Σς ǅ Ω Å",
    "line one\nline two\r\nline three\u2028four\u2029five",
]
# OpenCLIP takes a second for some of the longest.
SHORT = [text for text in NASTY if len(text) < 100]
SPELLINGS = st.sampled_from(
    ["<start_of_text>", "<end_of_text>", "&amp;", "&lt;", "&#39;", "'s", "'ll", "Ã©", "\x1b[0m"]
)
ANY_TEXT = st.text(st.characters(categories=None), max_size=120)
MIXED = st.lists(SPELLINGS | st.text(max_size=8) | ANY_TEXT | st.sampled_from(SHORT), max_size=6)


@cache
def pair(clean: str = "lower", context_length: int = 77) -> tuple[QuickTokenizer, SimpleTokenizer]:
    original = SimpleTokenizer(clean=clean, context_length=context_length)
    quick = make_tokenizer(original, context_length)
    assert isinstance(quick, QuickTokenizer)
    return quick, original


def assert_same_ids(text: str, clean: str = "lower", context_length: int = 77) -> None:
    quick, original = pair(clean, context_length)
    ids = quick(text)
    assert ids.dtype == np.int64
    assert ids.tolist() == original(text)[0].tolist(), repr(text)


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("number", range(len(NASTY)))
def test_a_nasty_text_has_the_ids_of_open_clip(number: int, clean: str) -> None:
    # Longer texts are cut before they are cleaned, so OpenCLIP gets the text as it was cut.
    assert_same_ids(" ".join(NASTY[number].split())[: 77 * 33], clean)


@settings(max_examples=800, deadline=None)
@given(ANY_TEXT | MIXED.map("".join) | MIXED.map(" ".join))
def test_any_text_has_the_ids_of_open_clip(text: str) -> None:
    assert_same_ids(text[: 77 * 33])


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | MIXED.map(" ".join), st.sampled_from(["whitespace", "canonicalize"]))
def test_any_text_has_the_ids_of_open_clip_under_another_cleaning(text: str, clean: str) -> None:
    assert_same_ids(text[: 77 * 33], clean)


@settings(deadline=None)
@given(st.text(st.sampled_from("abe<_st'"), max_size=80), st.sampled_from([2, 5, 12]))
def test_a_text_that_is_too_long_is_cut_as_by_open_clip(text: str, context_length: int) -> None:
    assert_same_ids(text, context_length=context_length)


def test_every_character_has_the_ids_of_open_clip() -> None:
    characters = [chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000]
    characters += [chr(code) for code in range(0x3000, 0x30000, 37)]
    for start in range(0, len(characters), 12):
        assert_same_ids(" a".join(characters[start : start + 12]))


def test_thousands_of_names_have_the_ids_of_open_clip() -> None:
    _, original = pair()
    words = [word.removesuffix("</w>") for word in original.encoder if word.endswith("</w>")]
    bytes_of = original.byte_decoder
    words = [bytearray(bytes_of[c] for c in word).decode("utf-8", "ignore") for word in words]
    generator = random.Random(7)
    for _ in range(3000):
        name = " ".join(generator.choices(words, k=7)).title()
        assert_same_ids(f"{name}, {generator.randrange(999)}ml (Pack-of-{generator.randrange(9)})")


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="&")))
def test_cleaning_changes_nothing_in_printable_ascii_without_entities(text: str) -> None:
    assert text.isprintable()
    assert ftfy.fix_text(text) == text
    assert html.unescape(text) == text


@pytest.mark.parametrize("name", ["Salt & pepper", 'Tom\'s "best" <b>mug</b>', "a&amp b", "Mug"])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_name_has_the_ids_of_what_was_crawled(name: str, times: int) -> None:
    crawled = name
    for _ in range(times):
        crawled = html.escape(crawled)
    quick, _ = pair()

    assert quick(clean_label(crawled)).tolist() == quick(crawled).tolist()


def test_a_text_far_beyond_the_context_is_cut_before_it_is_cleaned() -> None:
    quick, original = pair()
    text = "áo   thun " * 5_000

    assert quick(text).tolist() == original(" ".join(text.split())[: 77 * 33])[0].tolist()


@pytest.mark.parametrize("quick", [True, False])
def test_many_threads_get_the_ids_of_one(quick: bool) -> None:
    _, original = pair()
    expected = [original(text)[0].tolist() for text in SHORT]
    fresh = SimpleTokenizer()
    tokenizer = QuickTokenizer(fresh) if quick else LockedTokenizer(fresh, 77)

    with ThreadPoolExecutor(8) as pool:
        for ids in pool.map(lambda _: [tokenizer(text).tolist() for text in SHORT], range(8)):
            assert ids == expected


def test_the_number_of_remembered_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "MAX_REMEMBERED_WORDS", 50)
    quick = QuickTokenizer(SimpleTokenizer())
    for number in range(200):
        quick(f"sku{chr(97 + number % 26)}{chr(97 + number // 26)}q {'long' * 9}{number}")

    remembered = quick._remembered.cache_info()
    assert remembered.currsize == 50
    assert remembered.misses == 200 + 1 + 9


def test_open_clip_s_own_tokenizer_forgets_words_before_they_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenizer, "MAX_REMEMBERED_BY_OPEN_CLIP", 50)
    original = SimpleTokenizer()
    locked = LockedTokenizer(original, 77)
    for number in range(200):
        locked(f"sku{chr(97 + number % 26)}{chr(97 + number // 26)}q")

    assert len(original.cache) < 60
    assert locked("<end_of_text>")[1] == 49407


class OtherTokenizer(SimpleTokenizer):  # type: ignore[misc]
    """A subclass, which may encode in another way."""


def with_merges(*merges: tuple[str, str]) -> SimpleTokenizer:
    original = SimpleTokenizer()
    original.bpe_ranks = {merge: rank for rank, merge in enumerate(merges)}
    return original


@pytest.mark.parametrize(
    "original",
    [
        pytest.param(OtherTokenizer(), id="a subclass"),
        pytest.param(SimpleTokenizer(reduction_mask="simple"), id="random cuts"),
        pytest.param(SimpleTokenizer(context_length=None), id="no length"),
        pytest.param(SimpleTokenizer(additional_special_tokens=["<mask>"]), id="more tokens"),
        pytest.param(with_merges(("ab", "c"), ("a", "b")), id="a half made later"),
        pytest.param(
            with_merges(("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")), id="made twice"
        ),
    ],
)
def test_a_tokenizer_that_is_not_reproduced_is_used_as_it_is(original: Any) -> None:
    assert isinstance(make_tokenizer(original, 77), LockedTokenizer)


def test_the_tokenizer_of_a_clip_model_is_reproduced() -> None:
    original = open_clip.get_tokenizer("ViT-L-14-336")

    assert isinstance(make_tokenizer(original, 77), QuickTokenizer)


def test_the_quick_tokenizer_adds_no_words_to_open_clip_s() -> None:
    quick, original = pair()
    before = len(original.cache)
    quick(f"never seen before {sys.maxsize} qxzjv")

    assert len(original.cache) == before
