"""Text -> token ids of one model, equal to those of OpenCLIP's own tokenizer, at less cost.

OpenCLIP's tokenizer for CLIP is written in Python and remembers every word it ever saw. Its time
grows with the square of the longest word.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer, get_clean_fn

CHARACTERS_PER_TOKEN: Final = 33
"""The longest entry of OpenCLIP's vocabulary has 32 characters. Text beyond this many characters
per token cannot reach the embedding."""
MAX_REMEMBERED_WORDS: Final = 65_536
"""As many words as a shop's names hold: about 20 MB of words at their longest."""
MAX_REMEMBERED_CHARACTERS: Final = 32
"""Longer words are not remembered."""
MAX_REMEMBERED_BY_OPEN_CLIP: Final = 200_000
"""Words in the cache of OpenCLIP's own tokenizer, which has no limit itself."""

_END_OF_WORD = "</w>"


class TextTokenizer(Protocol):
    """The tokenizer of one model. Any number of threads may call it."""

    def __call__(self, text: str) -> NDArray[np.int64]:
        """Return token ids, int64, shape (context length,): start, text, end, padding.

        A text that is too long is cut; its end token is kept.
        """
        ...


def make_tokenizer(original: Any, context_length: int) -> TextTokenizer:
    """Return a quick tokenizer where it gives the ids of ``original``, else ``original`` locked."""
    if _can_be_quick(original):
        # benchmarks/device.py runs where nothing but PyTorch and OpenCLIP may be installed.
        with contextlib.suppress(ModuleNotFoundError):
            return QuickTokenizer(original)
    return LockedTokenizer(original, context_length)


class QuickTokenizer:
    """A tokenizer with the ids of OpenCLIP's ``SimpleTokenizer``, no lock and a bounded memory.

    Cleaning and splitting are OpenCLIP's own functions and pattern: another regular expression
    engine knows other letters, that of ``tokenizers`` 17,000 fewer. Rust turns words into ids, and
    the ids of known words are remembered. Most of the remaining time is cleaning, which plain ASCII
    skips.
    """

    def __init__(self, original: SimpleTokenizer) -> None:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        self._context_length: int = original.context_length
        self._start, self._end = original.all_special_ids
        self._special = {original.decoder[number]: number for number in original.all_special_ids}
        self._clean: Callable[[str], str] = original.clean_fn
        self._lowers = original.clean_fn is get_clean_fn("lower")
        # Otherwise the pattern engine releases the GIL for every word and waits to take it again.
        self._find_words: Callable[[str], list[str]] = functools.partial(
            original.pat.findall, concurrent=False
        )
        self._words = Tokenizer(
            BPE(
                vocab=dict(original.encoder),
                merges=list(original.bpe_ranks),
                end_of_word_suffix=_END_OF_WORD,
                cache_capacity=0,
            )
        )
        self._words.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
        self._remembered = functools.lru_cache(MAX_REMEMBERED_WORDS)(self._ids_of)

    def __call__(self, text: str) -> NDArray[np.int64]:
        ids = [self._start]
        for word in self._find_words(self._cleaned(_shortened(text, self._context_length))):
            is_short = len(word) <= MAX_REMEMBERED_CHARACTERS
            ids += self._remembered(word) if is_short else self._ids_of(word)
            if len(ids) >= self._context_length:
                break
        ids = [*ids[: self._context_length - 1], self._end]
        tokens = np.zeros(self._context_length, dtype=np.int64)
        tokens[: len(ids)] = ids
        return tokens

    def _cleaned(self, text: str) -> str:
        # ftfy and html.unescape change nothing in printable ASCII without entities: all characters
        # that they map, join or drop lie outside it.
        if self._lowers and text.isascii() and text.isprintable() and "&" not in text:
            return " ".join(text.split()).lower()
        return self._clean(text)

    def _ids_of(self, word: str) -> tuple[int, ...]:
        special = self._special.get(word)
        if special is not None:
            return (special,)
        return tuple(self._words.encode(word, add_special_tokens=False).ids)


class LockedTokenizer:
    """A tokenizer of OpenCLIP behind a lock, one text at a time; its word cache is bounded here."""

    def __init__(self, original: Any, context_length: int) -> None:
        self._original = original
        self._context_length = context_length
        self._lock = threading.Lock()

    def __call__(self, text: str) -> NDArray[np.int64]:
        text = _shortened(text, self._context_length)
        with self._lock:
            self._bound_word_cache()
            tokens: NDArray[np.int64] = self._original(text)[0].numpy()
        return tokens

    def _bound_word_cache(self) -> None:
        cache = getattr(self._original, "cache", None)
        if isinstance(cache, dict) and len(cache) > MAX_REMEMBERED_BY_OPEN_CLIP:
            special = {word: entry for word, entry in cache.items() if word == entry}
            cache.clear()
            cache.update(special)


def _shortened(text: str, context_length: int) -> str:
    max_characters = CHARACTERS_PER_TOKEN * context_length
    return text if len(text) <= max_characters else " ".join(text.split())[:max_characters]


def _can_be_quick(original: Any) -> bool:
    return (
        type(original) is SimpleTokenizer
        and original.reduction_fn is None
        and bool(original.context_length)
        and len(original.all_special_ids) == 2
        and _merge_order_is_free(original.bpe_ranks)
    )


def _merge_order_is_free(ranks: Mapping[tuple[str, str], int]) -> bool:
    """Return True if merging by occurrence (Rust) and by pair (OpenCLIP) give the same tokens.

    They do when exactly one merge makes each token, after the merges of both its halves. Then no
    merge enables a merge of lower rank, and all occurrences of a pair are merged before any other
    pair.
    """
    made: set[str] = set()
    for pair in sorted(ranks, key=ranks.__getitem__):
        token = "".join(pair)
        known = all(half in made or len(half.removesuffix(_END_OF_WORD)) == 1 for half in pair)
        if token in made or not known:
            return False
        made.add(token)
    return True
