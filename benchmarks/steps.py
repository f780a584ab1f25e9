"""CPU time of a consumer thread for an image and a name before the model gets them.

    python -m benchmarks.steps [--pixels 800 1500] [--rounds N]

OpenCLIP's own transform and tokenizer against ours, on JPEG photographs and names, in one thread.
Ways take turns within each round and the median of the rounds counts, so that other load on the
machine affects all alike. Differences are in grey levels (0 to 255), over all pixels of all images.
The model's weights are random and do not matter here.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.support.measuring import markdown
from benchmarks.support.model import DESCRIPTION, write_model
from benchmarks.support.photographs import draw
from benchmarks.support.program import command, run
from product_consumer.embedding.loading import LoadedModel, load_model
from product_consumer.embedding.preprocessing import Preparer
from product_consumer.images.decoder import ImageDecoder
from product_consumer.settings import Settings

IMAGES = 6
MAX_PIXELS = 50_000_000
NAMES: Mapping[str, Sequence[str]] = {
    "English names": [f"Women's running shoes, size {n}, breathable mesh" for n in range(100)],
    "Vietnamese names": [f"Áo thun nam cổ tròn vải cotton, cỡ {n}" for n in range(100)],
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to prepare an item."""

    name: str
    run: Callable[[Any], Any]


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        files = write_model(Path(scratch))
        settings = Settings.model_validate(
            {
                "openclip_config": files.config,
                "openclip_pretrained": str(files.weights),
                "device": "cpu",
            }
        )
        loaded = load_model(settings)
    print(f"{command()}\n\nmodel: {DESCRIPTION}\n")
    rows = [row for size in options.pixels for row in image_rows(loaded, size, options.rounds)]
    print(markdown(["JPEG", "way", "CPU ms", "of OpenCLIP's", "mean diff", "largest diff"], rows))
    rows = [row for what in NAMES for row in name_rows(loaded, what, options.rounds)]
    print("\n" + markdown(["texts", "way", "CPU ms", "of OpenCLIP's"], rows))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="CPU time of preparing images and names.")
    parser.add_argument("--pixels", type=int, nargs="+", default=[800, 1500])
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def image_rows(loaded: LoadedModel, size: int, rounds: int) -> list[list[str]]:
    files = [draw(size, seed) for seed in range(IMAGES)]
    ways = image_ways(loaded)
    seconds = take_turns(ways, files, rounds)
    exact = [levels_of_open_clip(loaded, file) for file in files]
    kilobytes = sum(map(len, files)) / len(files) / 1000
    rows = []
    for way in ways:
        row = [f"{size} x {size}, {kilobytes:.0f} KB", way.name, *figures(seconds, way, ways[0])]
        if way is not ways[0]:
            off = [np.abs(exact[n] - way.run(file)) for n, file in enumerate(files)]
            row += [f"{np.mean(off):.3f}", f"{np.max(off):.0f}"]
        rows.append(row + [""] * (6 - len(row)))
    return rows


def image_ways(loaded: LoadedModel) -> list[Way]:
    decoder = ImageDecoder(MAX_PIXELS)
    single = Preparer(loaded)
    half = Preparer(replace(loaded, dtype=torch.bfloat16))

    def ours(preparer: Preparer) -> Callable[[bytes], NDArray[np.uint8]]:
        def run(file: bytes) -> NDArray[np.uint8]:
            pixels = decoder.decode(file, preparer.shorter_side_pixels)
            return preparer.resize(pixels)

        return run

    return [
        Way("OpenCLIP's transform", lambda file: loaded.transform(Image.open(io.BytesIO(file)))),
        Way("ours, float32 models", ours(single)),
        Way("ours, half precision", ours(half)),
    ]


def name_rows(loaded: LoadedModel, what: str, rounds: int) -> list[list[str]]:
    preparer = Preparer(loaded)
    ways = [
        Way("OpenCLIP's tokenizer", loaded.tokenizer),
        Way("ours", preparer.tokenise),
    ]
    seconds = take_turns(ways, NAMES[what], rounds)
    return [[what, way.name, *figures(seconds, way, ways[0])] for way in ways]


def take_turns(ways: Sequence[Way], items: Sequence[Any], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds per item of each way."""
    spent: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds + 1):
        for way in ways:
            started = time.thread_time()
            for item in items:
                way.run(item)
            spent[way.name].append((time.thread_time() - started) / len(items))
    # The first round fills caches.
    return {name: median(seconds[1:]) for name, seconds in spent.items()}


def figures(seconds: Mapping[str, float], way: Way, first: Way) -> list[str]:
    return [f"{seconds[way.name] * 1000:.3f}", f"{seconds[way.name] / seconds[first.name]:.2f}"]


def levels_of_open_clip(loaded: LoadedModel, file: bytes) -> NDArray[np.float32]:
    """Return the grey levels of OpenCLIP's transform, before mean and deviation are applied."""
    prepared = loaded.transform(Image.open(io.BytesIO(file))).numpy().transpose(1, 2, 0)
    mean = np.asarray(loaded.preprocess.mean, np.float32)
    std = np.asarray(loaded.preprocess.std, np.float32)
    levels: NDArray[np.float32] = np.round((prepared * std + mean) * 255)
    return levels


if __name__ == "__main__":
    run(main)
