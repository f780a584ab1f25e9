"""The captions that the demo's model is trained on, as text and as rows of a small vocabulary."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import open_clip
import torch
from torch import Tensor, nn

from product_consumer.demo.drawings.drawing import COLOURS, KINDS
from product_consumer.demo.drawings.wording import ADJECTIVES, WORDING, product_name
from product_consumer.demo.tiny_model import MODEL_NAME

CAPTIONS_PER_PAIR = 80
ANY = -1
"""Stands for the kind or colour that a caption does not name."""
UNKNOWN = 0
"""The row of every word that training does not know; its embedding stays zero."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images (N, 3, 64, 64) or captions (N, length), with the kind and colour of each, (N,)."""

    inputs: Tensor
    kinds: Tensor
    colours: Tensor

    def pick(self, rows: Tensor) -> "Labelled":
        return Labelled(self.inputs[rows], self.kinds[rows], self.colours[rows])


def write_captions(seed: int) -> list[tuple[str, int, int]]:
    """Return text, kind and colour (indices, or ``ANY``) of every training caption."""
    rng = random.Random(f"captions {seed}")  # noqa: S311
    captions = []
    for kind, colour in product(range(len(KINDS)), range(len(COLOURS))):
        for _ in range(CAPTIONS_PER_PAIR):
            captions.append((_caption(KINDS[kind], COLOURS[colour], rng), kind, colour))
    for kind, name in enumerate(KINDS):
        for _ in range(CAPTIONS_PER_PAIR):
            captions.append((_template(rng).format(_noun(name, rng)), kind, ANY))
    for colour, name in enumerate(COLOURS):
        for text in (name, f"{name} product", f"something {name}", f"{name} things") * 10:
            captions.append((text, ANY, colour))
    return captions


def _caption(kind: str, colour: str, rng: random.Random) -> str:
    if rng.random() < 0.3:
        return product_name(kind, colour, rng)
    noun = _noun(kind, rng)
    if rng.random() < 0.3:
        noun = f"{rng.choice(WORDING[kind].materials)} {noun}"
    phrase = rng.choice(
        (
            f"{colour} {noun}",
            f"{colour} {noun}",
            f"{colour} {noun}",
            f"{rng.choice(ADJECTIVES)} {colour} {noun}",
            f"{noun}, {colour}",
            f"{noun} {colour}",
            f"{noun} in {colour}",
            f"{noun} ({colour})",
        )
    )
    return _template(rng).format(phrase)


def _template(rng: random.Random) -> str:
    return rng.choice(
        (
            "{}",
            "{}",
            "{}",
            "a {}",
            "the {}",
            "a photo of a {}",
            "a picture of {}",
            "new {}",
            "a {} for sale",
        )
    )


def _noun(kind: str, rng: random.Random) -> str:
    wording = WORDING[kind]
    noun = rng.choice((kind, kind, *wording.nouns, *wording.also))
    if noun.endswith("s") or rng.random() < 0.7:
        return noun
    return f"{noun}es" if noun.endswith(("x", "ch", "sh")) else f"{noun}s"


def tokenise(captions: Sequence[tuple[str, int, int]]) -> tuple[Labelled, list[int]]:
    """Return captions as rows of a small vocabulary, and OpenCLIP's token number of each row.

    Row ``UNKNOWN`` (0) stands for every other token; a caption ends with its last non-zero entry.
    """
    tokenizer = open_clip.get_tokenizer(MODEL_NAME)
    sequences = [
        [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]
        for text, _, _ in captions
    ]
    vocabulary = [UNKNOWN, *sorted({token for sequence in sequences for token in sequence})]
    row_of = {token: row for row, token in enumerate(vocabulary) if row != UNKNOWN}
    rows = [torch.tensor([row_of[token] for token in sequence]) for sequence in sequences]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=UNKNOWN)
    kinds, colours = (torch.tensor([caption[at] for caption in captions]) for at in (1, 2))
    return Labelled(padded, kinds, colours), vocabulary
