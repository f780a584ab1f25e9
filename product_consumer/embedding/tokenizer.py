"""Text -> token ids of one model, as OpenCLIP's own tokenizer gives them, without its costs.

OpenCLIP's tokenizer for CLIP is written in Python, remembers every word it ever saw, and takes time
that grows with the square of the longest word.
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
"""The longest entry of OpenCLIP's vocabulary has 32 characters. A longer text than this for each
token cannot reach the vectors."""
MAX_REMEMBERED_WORDS: Final = 65_536
"""As many words as a shop's names hold; of ``MAX_REMEMBERED_CHARACTERS`` each, about 20 MB."""
MAX_REMEMBERED_CHARACTERS: Final = 32
MAX_REMEMBERED_BY_OPEN_CLIP: Final = 200_000

_END_OF_WORD = "</w>"


class TextTokenizer(Protocol):
    """For any number of threads."""

    def __call__(self, text: str) -> NDArray[np.int64]:
        """Token ids, (context length,): start, text, end, padding. The text is cut where it is too
        long, and the end mark kept."""
        ...


def make_tokenizer(original: Any, context_length: int) -> TextTokenizer:
    """The quick tokenizer where it gives the ids of ``original``, else ``original`` itself."""
    if _can_be_quick(original):
        # benchmarks/device.py runs where nothing but PyTorch and OpenCLIP may be installed.
        with contextlib.suppress(ModuleNotFoundError):
            return QuickTokenizer(original)
    return LockedTokenizer(original, context_length)


class QuickTokenizer:
    """The ids of OpenCLIP's ``SimpleTokenizer``, with no lock and a bounded memory.

    Cleaning and splitting are OpenCLIP's own functions and pattern: another regular expression
    engine knows other letters, that of ``tokenizers`` 17,000 fewer. Words become ids in Rust, and
    those of known words are remembered. What is left is mostly cleaning, which plain ASCII is
    spared.
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
        # Else the pattern engine gives up the GIL for every word and has to wait for it again.
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
        # In printable ASCII without entities ftfy and html.unescape find nothing to change: the
        # characters that they map, join or drop are all beyond it.
        if self._lowers and text.isascii() and text.isprintable() and "&" not in text:
            return " ".join(text.split()).lower()
        return self._clean(text)

    def _ids_of(self, word: str) -> tuple[int, ...]:
        special = self._special.get(word)
        if special is not None:
            return (special,)
        return tuple(self._words.encode(word, add_special_tokens=False).ids)


class LockedTokenizer:
    """A tokenizer of OpenCLIP's, one text at a time; what it remembers is bounded here."""

    def __init__(self, original: Any, context_length: int) -> None:
        self._original = original
        self._context_length = context_length
        self._lock = threading.Lock()

    def __call__(self, text: str) -> NDArray[np.int64]:
        text = _shortened(text, self._context_length)
        with self._lock:
            self._forget_many_words()
            tokens: NDArray[np.int64] = self._original(text)[0].numpy()
        return tokens

    def _forget_many_words(self) -> None:
        remembered = getattr(self._original, "cache", None)
        if isinstance(remembered, dict) and len(remembered) > MAX_REMEMBERED_BY_OPEN_CLIP:
            special = {word: entry for word, entry in remembered.items() if word == entry}
            remembered.clear()
            remembered.update(special)


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
    """Whether merging occurrence by occurrence (Rust) ends as merging pair by pair (OpenCLIP) does.

    It does when every token is made by one merge only and after its parts: then no merge opens the
    way for one of lower rank, and all occurrences of a pair are merged before any other pair.
    """
    made: set[str] = set()
    for pair in sorted(ranks, key=ranks.__getitem__):
        token = "".join(pair)
        known = all(part in made or len(part.removesuffix(_END_OF_WORD)) == 1 for part in pair)
        if token in made or not known:
            return False
        made.add(token)
    return True
