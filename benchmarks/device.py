"""How fast the device runs the model, which share the embedder reaches, and how exact it is.

    python -m benchmarks.device [--model NAME] [--pretrained FILE] [--seconds S] [--device D]

Needs PyTorch, OpenCLIP and this repository; no server, no network. Without ``--pretrained`` the
weights are random, drawn here and loaded from a file like an operator's own. Speed does not depend
on their values. Cosines do, and are only an indication then. ``--model small`` is a model to try
the benchmark itself on a CPU.

One run fills one table. Its rows are:

- the matrix products that the device sustains;
- bare forward passes of both towers over inputs that lie on the device: as OpenCLIP runs them, as
  we do kernel by kernel, and as CUDA graphs;
- our embedder, fed by threads with prepared items from memory;
- OpenCLIP, called for one pair at a time under a lock.

The share of the matrix rate counts whole texts of 77 tokens, even where shorter texts are run.
"""

import argparse
import json
import logging
import math
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.support.program import run
from product_consumer.embedding.cuda import GraphedTower
from product_consumer.embedding.embedder import Embedder
from product_consumer.embedding.loading import LoadedModel, load_model
from product_consumer.embedding.preprocessing import PreparedItem
from product_consumer.embedding.spec import EXAMPLE_MODEL, QUICK_GELU_MODELS
from product_consumer.embedding.towers import Towers
from product_consumer.models import Embeddings

SMALL = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 256, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4},
}
OPEN_CLIP_PRECISION = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
ITEMS_AT_ONCE = 10
COMPARED_ITEMS = 32
LOWEST_COSINE = {torch.float32: 0.99999, torch.bfloat16: 0.9995, torch.float16: 0.9995}


def main() -> None:
    options = read_options()
    # OpenCLIP logs too much. Our own lines tell which CUDA graphs were captured, or why none was.
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    logging.getLogger("product_consumer").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as scratch:
        settings = choose_model(options, Path(scratch))
        started = time.perf_counter()
        loaded = load_model(settings)
        print(f"Loaded in {time.perf_counter() - started:.1f} s: {describe(loaded, options)}")
        Benchmark(loaded, settings, options).run()


@dataclass(frozen=True, slots=True)
class Choice:
    """The settings that choose a model; ``Settings`` needs packages that may be missing here."""

    openclip_model: str
    openclip_pretrained: str
    device: str
    openclip_config: Path | None = None
    openclip_quick_gelu: bool | None = None
    model_fields_set: set[str] = field(default_factory=lambda: {"openclip_model"})


def choose_model(options: argparse.Namespace, scratch: Path) -> Choice:
    """Return settings that name the model and its weights file, written here if none is given."""
    config: Path | None = None
    if options.model == "small":
        config = scratch / "small.json"
        config.write_text(json.dumps(SMALL), encoding="utf-8")
        open_clip.add_model_config(config)
    weights = options.pretrained or str(scratch / "random.safetensors")
    if not options.pretrained:
        torch.manual_seed(0)
        drawn = open_clip.create_model(options.model).state_dict()
        save_file({name: value.contiguous() for name, value in drawn.items()}, weights)
    return Choice(options.model, weights, options.device, config)


def describe(loaded: LoadedModel, options: argparse.Namespace) -> str:
    is_cuda = loaded.device.type == "cuda"
    name = torch.cuda.get_device_name(loaded.device) if is_cuda else "CPU"
    weights = "given weights" if options.pretrained else "random weights"
    dtype = str(loaded.dtype).removeprefix("torch.")
    return f"{options.model}, {weights}, {dtype}, on {name}, PyTorch {torch.__version__}"


class Benchmark:
    """Measures one loaded model on its device and prints the table."""

    def __init__(self, loaded: LoadedModel, settings: Choice, options: argparse.Namespace) -> None:
        self.loaded = loaded
        self.settings = settings
        self.device = loaded.device
        self.seconds: float = options.seconds
        self.max_batch: int = options.max_batch
        self.threads: int = options.threads
        self.with_compile: bool = options.compile
        self.flop = pair_flop(options.model)
        self.towers = Towers(loaded)
        self.items = make_items(loaded, self.max_batch)
        self.matrix_rate = 0.0

    def run(self) -> None:
        print(f"{self.flop / 1e9:.1f} GFLOP a pair")
        print(f"{'':44} batch   pairs/s  of matrix rate")
        with torch.inference_mode():
            self.matrix_rate = self.measure_matrix_rate()
            self.report("matrix products alone", 0, self.matrix_rate / self.flop)
            theirs = self.open_clip_model(OPEN_CLIP_PRECISION[self.loaded.dtype])
            bare = max(self.bare(theirs, size) for size in self.sizes())
            locked = self.one_at_a_time(theirs)
            del theirs
        embedder = Embedder(self.loaded, max_batch=self.max_batch)
        try:
            warm_up_seconds = embedder.warm_up()
            embedded = self.embedder_rate(embedder)
            cosines = self.cosines(embedder)
        finally:
            embedder.close()
        self.judge(bare, locked, embedded, cosines)
        print(f"Warm-up {warm_up_seconds:.1f} s. fp8 was not tried.")

    def judge(
        self, bare: float, locked: float, embedded: float, cosines: tuple[float, float]
    ) -> None:
        lowest = LOWEST_COSINE[self.loaded.dtype]
        share = bare * self.flop / self.matrix_rate
        print(f"\nBest bare pass, of matrix rate  {share:8.1%}  (target >= 60 %)")
        print(f"Embedder, of best bare pass     {embedded / bare:8.1%}  (target >= 95 %)")
        print(f"Embedder, of one at a time      {embedded / locked:8.1f}  (target >= 20 times)")
        for side, cosine in zip(("images", "texts"), cosines, strict=True):
            print(f"Lowest cosine of {side:8} to float32 {cosine:.7f}  (target >= {lowest})")

    def sizes(self) -> list[int]:
        return [size for size in (1, 8, 16, 32, 64, 128) if size < self.max_batch] + [
            self.max_batch
        ]

    def measure_matrix_rate(self) -> float:
        """Return FLOP per second of a product of random matrices; zeros would need less power."""
        side = 8192 if self.device.type == "cuda" else 1024
        left, right = (
            torch.randn(side, side, dtype=self.loaded.dtype, device=self.device) for _ in range(2)
        )
        return self.rate(lambda: left @ right) * 2 * side**3

    def bare(self, theirs: Any, size: int) -> float:
        """Measure passes over ``size`` pairs on the device; return our best rate in pairs/s."""
        pixels = torch.from_numpy(np.stack([pixels_of(i) for i in self.items[:size]]))
        whole = np.stack([tokens_of(item) for item in self.items[:size]])
        values = normalised(self.loaded, pixels)
        pixels, tokens = pixels.to(self.device), torch.from_numpy(whole).to(self.device)
        cut = torch.from_numpy(self.towers.cut(list(whole))).to(self.device).contiguous()

        def as_open_clip() -> None:
            theirs.encode_image(values)
            theirs.encode_text(tokens)

        def kernel_by_kernel() -> None:
            self.towers.encode_images(pixels)
            self.towers.encode_texts(cut)

        self.report("bare, OpenCLIP as it is", size, size * self.rate(as_open_clip))
        best = size * self.rate(kernel_by_kernel)
        self.report(f"bare, ours, texts of {cut.shape[1]} tokens", size, best)
        if self.device.type == "cuda":
            captured = size * self.rate(self.capture(pixels, cut))
            self.report("bare, ours, as CUDA graphs", size, captured)
            best = max(best, captured)
        if self.with_compile and size == self.max_batch:
            self.report_compiled(pixels, cut)
        return best

    def report_compiled(self, pixels: torch.Tensor, tokens: torch.Tensor) -> None:
        """Measure compiled towers, for comparison only: the worker compiles nothing."""
        images, texts = (
            torch.compile(tower) for tower in (self.towers.encode_images, self.towers.encode_texts)
        )
        try:
            passes_per_second = self.rate(lambda: (images(pixels), texts(tokens)))
        except Exception as error:
            print(f"bare, ours, compiled: {type(error).__name__}: {str(error)[:200]}")
        else:
            self.report("bare, ours, compiled", len(pixels), len(pixels) * passes_per_second)

    def capture(self, pixels: torch.Tensor, tokens: torch.Tensor) -> Callable[[], None]:
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        pool = torch.cuda.graph_pool_handle()
        images = GraphedTower(self.towers.encode_images, "images")
        texts = GraphedTower(self.towers.encode_texts, "texts")
        with torch.cuda.stream(stream):
            images.capture(pixels, pool, stream)
            texts.capture(tokens, pool, stream)
        graphs = [*images.graphs.values(), *texts.graphs.values()]

        def replay() -> None:
            for graph in graphs:
                graph.graph.replay()

        return replay

    def one_at_a_time(self, theirs: Any) -> float:
        """Return pairs/s of OpenCLIP under a lock, from as many threads, with prepared pairs."""
        lock = threading.Lock()
        values = [
            normalised(self.loaded, torch.from_numpy(pixels_of(item)[None])).cpu()
            for item in self.items[:ITEMS_AT_ONCE]
        ]

        def embed() -> int:
            for value, item in zip(values, self.items, strict=False):
                tokens = torch.from_numpy(tokens_of(item)[None])
                with lock, torch.inference_mode():
                    theirs.encode_image(value.to(self.device)).float().cpu()
                    theirs.encode_text(tokens.to(self.device)).float().cpu()
            return len(values)

        rate = self.from_threads(embed)
        self.report(f"OpenCLIP, one pair per lock, {self.threads} threads", 1, rate)
        return rate

    def embedder_rate(self, embedder: Embedder) -> float:
        items = [self.items[n % len(self.items)] for n in range(ITEMS_AT_ONCE)]
        counts: list[int] = []
        embedder.watch_passes(counts.append)

        def embed() -> int:
            return len([embeddings(answer) for answer in embedder.embed(items)])

        rate = self.from_threads(embed)
        mean = round(sum(counts) / len(counts))
        self.report(f"our embedder, {self.threads} threads of {ITEMS_AT_ONCE} pairs", mean, rate)
        return rate

    def from_threads(self, embed: Callable[[], int]) -> float:
        started = time.perf_counter()
        end = started + self.seconds

        def work(_: int) -> int:
            done = 0
            while time.perf_counter() < end:
                done += embed()
            return done

        with ThreadPoolExecutor(self.threads) as pool:
            total = sum(pool.map(work, range(self.threads)))
        return total / (time.perf_counter() - started)

    def cosines(self, embedder: Embedder) -> tuple[float, float]:
        """Return the lowest cosines of images and texts to those of OpenCLIP in float32 here."""
        torch.backends.cudnn.allow_tf32 = False
        exact = self.open_clip_model("fp32")
        items = [self.items[n % len(self.items)] for n in range(COMPARED_ITEMS)]
        embedded = [embeddings(answer) for answer in embedder.embed(items)]
        lowest = [math.inf, math.inf]
        for item, ours in zip(items, embedded, strict=True):
            pixels = torch.from_numpy(pixels_of(item)[None])
            with torch.inference_mode():
                image = exact.encode_image(normalised(self.loaded, pixels).float())
                text = exact.encode_text(torch.from_numpy(tokens_of(item)[None]).to(self.device))
            for side, (row, our) in enumerate(((image, ours.image), (text, ours.text))):
                wide = row[0].double().cpu().numpy()
                cosine = float(wide @ our / np.linalg.norm(wide) / np.linalg.norm(our))
                lowest[side] = min(lowest[side], cosine)
        return lowest[0], lowest[1]

    def open_clip_model(self, precision: str) -> Any:
        return open_clip.create_model(
            self.settings.openclip_model,
            self.settings.openclip_pretrained,
            precision=precision,
            device=self.device,
            force_quick_gelu=self.settings.openclip_model in QUICK_GELU_MODELS,
        ).eval()

    def rate(self, run: Callable[[], object]) -> float:
        """Runs per second, sustained for ``seconds``."""
        run()
        self.synchronise()
        started = time.perf_counter()
        run()
        self.synchronise()
        count = max(3, int(self.seconds / (time.perf_counter() - started)))
        started = time.perf_counter()
        for _ in range(count):
            run()
        self.synchronise()
        return count / (time.perf_counter() - started)

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def report(self, name: str, batch: int, pairs_per_second: float) -> None:
        share = pairs_per_second * self.flop / self.matrix_rate
        print(f"{name:44}{batch or '':6}{pairs_per_second:10.1f}{share:16.1%}", flush=True)


def pair_flop(model: str) -> float:
    """Return FLOP of an image and a whole text; a multiplication and an addition count as two."""
    # The counter does not know the single kernel that computes a whole attention layer.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        shapes = open_clip.create_model(model, device="meta").eval()
        height, width = shapes.visual.image_size
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            shapes.encode_image(torch.zeros(1, 3, height, width, device="meta"))
            tokens = torch.zeros(1, shapes.context_length, dtype=torch.int64, device="meta")
            shapes.encode_text(tokens)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return float(counter.get_total_flops())


def make_items(loaded: LoadedModel, count: int) -> list[PreparedItem]:
    """Return prepared items: noise over patches of colour, and names of 9 to 21 words, fixed."""
    _, height, width = loaded.preprocess.input_size
    drawn = np.random.default_rng(0)
    items = []
    for number in range(count):
        patches = drawn.integers(0, 200, (8, 8, 3)).repeat(height // 8, 0).repeat(width // 8, 1)
        pixels = (patches + drawn.integers(0, 56, patches.shape)).astype(np.uint8)
        name = " ".join(["shirt", "red", "cotton", "size", "new"][: 2 + number % 4] * 4)
        items.append(PreparedItem(pixels, loaded.tokenizer(f"{name} {number}")[0].numpy()))
    return items


def normalised(loaded: LoadedModel, pixels: torch.Tensor) -> torch.Tensor:
    """Return pixels as OpenCLIP's own transform normalises them, as a batch on the device."""
    mean, std = (
        torch.tensor(values, device=loaded.device).reshape(1, 3, 1, 1)
        for values in (loaded.preprocess.mean, loaded.preprocess.std)
    )
    values = pixels.to(loaded.device).permute(0, 3, 1, 2).float() / 255
    return ((values - mean) / std).to(loaded.dtype)


def pixels_of(item: PreparedItem) -> Any:
    return item.pixels


def tokens_of(item: PreparedItem) -> Any:
    return item.tokens


def embeddings(answer: object) -> Embeddings:
    if not isinstance(answer, Embeddings):
        raise TypeError(f"no embeddings but {answer}")
    return answer


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Device, embedder and OpenCLIP side by side")
    parser.add_argument("--model", default=EXAMPLE_MODEL, help="of OpenCLIP, or small")
    parser.add_argument("--pretrained", help="a local weights file; default random weights")
    parser.add_argument("--seconds", type=float, default=2.0, help="per figure")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile: minutes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run(main)
