"""Train the demo's OpenCLIP model on drawn images: a few minutes on two cores, no download.

    python -m product_consumer.demo.training.train_model [--output FOLDER] [--steps N] [--seed N]

Images and captions are compared within a batch as in CLIP, but the target is graded. A caption
fits an image of its kind and colour best, then its kind in another colour, then its colour on
another kind. A caption without a colour fits all colours of its kind, and the other way round.
"""

import argparse
import hashlib
import io
import lzma
import math
import random
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as functional
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from product_consumer.demo.drawings.drawing import COLOURS, KINDS, draw_product
from product_consumer.demo.tiny_model import CHECKSUM, MODEL_NAME, PACKED_WEIGHTS, config_path
from product_consumer.demo.training.captions import (
    ANY,
    CAPTIONS_PER_PAIR,
    UNKNOWN,
    Labelled,
    tokenise,
    write_captions,
)
from product_consumer.demo.training.evaluation import DemoModel, Preprocess, retrieval_rates

_IMAGES_PER_PAIR = 40
_BATCH = 128
_TRAINING_PIXELS = 160
_PEAK_LEARNING_RATE = 2e-3
# Fixed: the graded targets below are in these units, so a learned scale could only undo them.
_LOGIT_SCALE = 20.0
_OTHER_KIND_PENALTY = 6.0
_OTHER_COLOUR_PENALTY = 4.0
_FRESH_CATALOGUES = (901, 902, 903)


def draw_images(seed: int, preprocess: Preprocess) -> Labelled:
    """Return the training images: each pair of kind and colour equally often, with JPEG noise."""
    pairs = list(product(range(len(KINDS)), range(len(COLOURS)))) * _IMAGES_PER_PAIR
    images = torch.empty(len(pairs), 3, 64, 64, dtype=torch.float16)
    for index, (kind, colour) in enumerate(tqdm(pairs, desc="Drawing", unit="image")):
        # The word keeps these images apart from those drawn for the catalogue.
        rng = random.Random(f"training {seed} {index}")  # noqa: S311
        image = draw_product(KINDS[kind], COLOURS[colour], rng, _TRAINING_PIXELS)
        images[index] = preprocess(_through_jpeg(image, rng.randint(60, 95)))
    kinds, colours = (torch.tensor(column) for column in zip(*pairs, strict=True))
    return Labelled(images, kinds, colours)


def _through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def with_unknown_words(rows: Tensor, share: float, most: int = 4) -> Tensor:
    """Return ``rows`` (N, length) with unknown words added to about ``share`` of the captions."""
    count, length = rows.shape
    added = torch.randint(1, most + 1, (count,)) * (torch.rand(count) < share)
    last = (rows != UNKNOWN).sum(dim=1) - 1
    # Between the start token and the end token, so both keep their place in the sequence.
    at = 1 + (torch.rand(count) * last).long()
    places = torch.arange(length + most).expand(count, -1)
    source = torch.where(places < at[:, None], places, places - added[:, None])
    inside = (places >= at[:, None]) & (places < (at + added)[:, None])
    taken = functional.pad(rows, (0, most), value=UNKNOWN).gather(1, source.clamp(min=0))
    return taken.masked_fill(inside, UNKNOWN)


def encode_captions(model: open_clip.CLIP, words: nn.Embedding, rows: Tensor) -> Tensor:
    """Embed captions as OpenCLIP does, padded to the longest: (N, 768), unit length."""
    positions = torch.arange(rows.shape[1])
    last = torch.where(rows != UNKNOWN, positions, 0).amax(dim=1)
    length = int(last.max()) + 1
    x = words(rows[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(rows)), last] @ model.text_projection
    return functional.normalize(x, dim=-1)


def graded_loss(first: Tensor, second: Tensor, what: Labelled, other: Labelled) -> Tensor:
    """Cross entropy, both ways, between similarities and how well the labels fit."""
    logits = _LOGIT_SCALE * first @ second.T
    fit = -_OTHER_KIND_PENALTY * _differ(what.kinds, other.kinds)
    fit = fit - _OTHER_COLOUR_PENALTY * _differ(what.colours, other.colours)
    rows = functional.cross_entropy(logits, fit.softmax(dim=1))
    columns = functional.cross_entropy(logits.T, fit.T.softmax(dim=1))
    return (rows + columns) / 2


def _differ(first: Tensor, second: Tensor) -> Tensor:
    rows, columns = first[:, None], second[None, :]
    return ((rows != columns) & (rows != ANY) & (columns != ANY)).float()


def train(
    model: open_clip.CLIP, images: Labelled, captions: Labelled, words: nn.Embedding, steps: int
) -> None:
    """Fit ``model`` and ``words`` in place."""
    parameters = [*model.parameters(), *words.parameters()]
    decayed = [p for p in parameters if p.ndim >= 2 and p is not words.weight]
    spared = [p for p in parameters if p.ndim < 2 or p is words.weight]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": spared, "weight_decay": 0.0}],
        lr=_PEAK_LEARNING_RATE,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    full = torch.nonzero((captions.kinds != ANY) & (captions.colours != ANY)).flatten()
    by_pair = full.view(len(KINDS), len(COLOURS), CAPTIONS_PER_PAIR)
    progress = tqdm(range(steps), desc="Training", unit="step")
    for step in progress:
        drawn = images.pick(torch.randint(len(images.kinds), (_BATCH,)))
        named = by_pair[drawn.kinds, drawn.colours, torch.randint(CAPTIONS_PER_PAIR, (_BATCH,))]
        matching = captions.pick(named)
        others = captions.pick(torch.randint(len(captions.kinds), (_BATCH,)))
        loss = _batch_loss(model, words, drawn, matching, others)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")


def _batch_loss(
    model: open_clip.CLIP,
    words: nn.Embedding,
    drawn: Labelled,
    matching: Labelled,
    others: Labelled,
) -> Tensor:
    images = model.encode_image(_shaken(drawn.inputs.float()), normalize=True)
    texts = encode_captions(model, words, with_unknown_words(matching.inputs, 0.3))
    other_texts = encode_captions(model, words, with_unknown_words(others.inputs, 0.1))
    return (
        graded_loss(images, texts, drawn, matching)
        + graded_loss(images, other_texts, drawn, others)
        + graded_loss(texts, other_texts, matching, others)
    )


def _shaken(images: Tensor) -> Tensor:
    """Shift images by up to two pixels and add noise, so that none is learnt by heart."""
    x, y = (int(shift) for shift in torch.randint(0, 5, (2,)))
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    shifted = padded[:, :, y : y + images.shape[2], x : x + images.shape[3]]
    return shifted + torch.randn_like(shifted) * 0.03


def merge_words(model: open_clip.CLIP, words: nn.Embedding, vocabulary: Sequence[int]) -> None:
    """Copy the trained rows to their token numbers in OpenCLIP's table; other rows become zero."""
    with torch.no_grad():
        table = model.token_embedding.weight
        table.zero_()
        table[torch.tensor(vocabulary[1:])] = words.weight[1:]


def write_weights(model: open_clip.CLIP, packed: Path, checksum: Path) -> None:
    """Write the weights, rounded to 255 steps a matrix, float16 and compressed; and a SHA-256."""
    tensors = {
        name: _rounded(value).half().contiguous() for name, value in model.state_dict().items()
    }
    unpacked = save(tensors)
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 2, "lp": 1, "pb": 1}
    ]
    packed.write_bytes(lzma.compress(unpacked, filters=filters))
    digest = hashlib.sha256(unpacked).hexdigest()
    checksum.write_text(f"{digest}  {MODEL_NAME}.safetensors\n", encoding="ascii")


def _rounded(value: Tensor) -> Tensor:
    if value.ndim < 2:
        return value
    step = value.abs().max().clamp(min=1e-8) / 127
    return (value / step).round() * step


def new_model() -> tuple[open_clip.CLIP, Preprocess]:
    """Return the untrained model and its image preprocessing."""
    open_clip.add_model_config(config_path())
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL_NAME)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(_LOGIT_SCALE))
        # Positions beyond every training caption must not disturb longer texts.
        model.positional_embedding.zero_()
    model.logit_scale.requires_grad_(False)
    return model, preprocess


def make_model(seed: int, steps: int) -> open_clip.CLIP:
    """Draw, train and merge; return a model that is ready for ``write_weights``."""
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    model, preprocess = new_model()
    captions, vocabulary = tokenise(write_captions(seed))
    words = nn.Embedding(len(vocabulary), model.token_embedding.embedding_dim, padding_idx=UNKNOWN)
    with torch.no_grad():
        words.weight.normal_(std=0.05)
        words.weight[UNKNOWN].zero_()
    train(model, draw_images(seed, preprocess), captions, words, steps)
    merge_words(model, words, vocabulary)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=PACKED_WEIGHTS.parent)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    packed = arguments.output / PACKED_WEIGHTS.name
    write_weights(
        make_model(arguments.seed, arguments.steps), packed, arguments.output / CHECKSUM.name
    )
    print(f"{packed}: {packed.stat().st_size:,} bytes")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"{MODEL_NAME}.safetensors"
        weights.write_bytes(lzma.decompress(packed.read_bytes()))
        model = DemoModel(weights)
    for seed in _FRESH_CATALOGUES:
        for field, rates in retrieval_rates(model, seed).items():
            print(
                f"catalogue {seed}, by {field}: right kind first {rates.kind:.1%},"
                f" right kind and colour first {rates.kind_and_colour:.1%}"
            )


if __name__ == "__main__":
    main()
