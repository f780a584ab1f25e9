"""Forward passes on a CUDA device: queued and awaited apart, replayed from graphs where captured.

A pass is queued as copy, kernels, copy back, without waiting for any of them, so that the next can
be queued behind it and the device goes from one to the other by itself. All of it is one stream:
a copy takes a hundredth of its pass, which a second stream could hide and would have to be kept in
step with this one.

A large vision transformer is some 500 kernels. Launched one by one they take a CPU longer than a
small batch takes the device; a graph launches them all at once. It has fixed shapes, so a batch is
run in the next larger size, the rest of the rows left over from earlier ones and ignored.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from product_consumer.embedding.towers import Towers

log = logging.getLogger(__name__)

Rows = NDArray[np.float32]

# From here on the device is busy for longer than its kernels take to launch, so graphs gain nothing
# and would hold memory for the largest of them.
MAX_GRAPH_BATCH = 128
# The first batch waits for the capture. What is not captured by then is launched kernel by kernel.
CAPTURE_SECONDS = 25.0
# A graph this much larger than the batch would cost more than launching the kernels.
MAX_PADDING = 2


def graph_sizes(max_batch: int, *, steps_per_octave: int) -> list[int]:
    """Batch sizes to capture, largest first: up to 8 the powers of two, then this many between one
    power of two and the next."""
    limit = min(max_batch, MAX_GRAPH_BATCH)
    sizes, size = {limit}, 1
    while size < limit:
        sizes.add(size)
        octave = 1 << (size.bit_length() - 1)
        size += octave // steps_per_octave if size >= 8 else octave
    return sorted(sizes, reverse=True)


@dataclass(slots=True, eq=False)
class Graph:
    """A captured pass: it reads ``inputs`` and writes ``outputs``, where they are."""

    graph: torch.cuda.CUDAGraph
    inputs: torch.Tensor
    outputs: torch.Tensor


class GraphedTower:
    """One tower: its function, its graphs by size and width, and the inputs that they read."""

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor], name: str) -> None:
        self.run = run
        self.name = name
        self.graphs: dict[tuple[int, ...], Graph] = {}

    def capture(self, inputs: torch.Tensor, pool: Any, stream: torch.cuda.Stream) -> None:
        """Capture the pass over ``inputs``, which stay where they are and are read at replay."""
        # Kernels are chosen and workspaces made at the first run, which a capture must not see.
        self.run(inputs)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use CUDA meanwhile, say for pinned memory.
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            outputs = self.run(inputs)
        self.graphs[tuple(inputs.shape)] = Graph(graph, inputs, outputs)

    def find(self, shape: tuple[int, ...]) -> Graph | None:
        """The smallest graph that takes a batch of this shape, if it is not far too large."""
        sizes = [size for size, *rest in self.graphs if tuple(rest) == shape[1:]]
        fitting = min((size for size in sizes if size >= shape[0]), default=None)
        if fitting is None or fitting > MAX_PADDING * shape[0]:
            return None
        return self.graphs[(fitting, *shape[1:])]


class CudaPasses:
    """Queues batches on one device; everything but the constructor belongs to one thread."""

    def __init__(self, towers: Towers, device: torch.device, max_batch: int) -> None:
        self._towers = towers
        self._device = device
        self._max_batch = max_batch
        # The weights were put in place on another stream, which this one does not wait for.
        torch.cuda.synchronize(device)
        self._stream = torch.cuda.Stream(device)
        self._images = GraphedTower(towers.encode_images, "pictures")
        self._texts = GraphedTower(towers.encode_texts, "texts")

    def queue(
        self, pixels: Sequence[NDArray[np.uint8]], tokens: Sequence[NDArray[np.int64]]
    ) -> Callable[[], tuple[Rows, Rows]]:
        """Queue one batch and return a function that waits for its rows, as float32, of the
        pictures and of the texts; either may have none."""
        with torch.cuda.stream(self._stream), torch.inference_mode():
            images = self._queue_side(self._images, _pin_stacked(pixels)) if pixels else None
            texts = self._queue_side(self._texts, self._pin_cut(tokens)) if tokens else None
            # Sleeps instead of spinning: the cores belong to the threads that prepare pictures.
            done = torch.cuda.Event(blocking=True)
            done.record()

        def wait() -> tuple[Rows, Rows]:
            done.synchronize()
            return _rows(images), _rows(texts)

        return wait

    def capture(self, picture_shape: tuple[int, int, int]) -> None:
        """Capture graphs for as many batch sizes as memory and time allow, largest first, so that
        the smaller ones find room in the memory of the larger.

        Does without them, and says so once, where the model or the driver does not allow it.
        """
        started = time.monotonic()
        pool = torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.stream(self._stream), torch.inference_mode():
                for side, inputs in self._inputs_to_capture(picture_shape):
                    if time.monotonic() - started > CAPTURE_SECONDS:
                        log.info("Capturing CUDA graphs ends after %g s", CAPTURE_SECONDS)
                        break
                    self._capture_if_it_fits(side, inputs, pool)
        except RuntimeError as error:
            self._images.graphs.clear()
            self._texts.graphs.clear()
            first_line = str(error).partition("\n")[0]
            log.warning("CUDA graphs do not work here, kernels are launched singly: %s", first_line)
            return
        seconds = time.monotonic() - started
        counts = len(self._images.graphs), len(self._texts.graphs)
        log.info(
            "Captured CUDA graphs of %d picture and %d text batches in %.1f s", *counts, seconds
        )

    def _inputs_to_capture(
        self, picture_shape: tuple[int, int, int]
    ) -> Iterator[tuple[GraphedTower, torch.Tensor]]:
        sizes = graph_sizes(self._max_batch, steps_per_octave=4)
        pixels = torch.zeros((sizes[0], *picture_shape), dtype=torch.uint8, device=self._device)
        for size in sizes:
            yield self._images, pixels[:size]
        sizes = graph_sizes(self._max_batch, steps_per_octave=1)
        for length in self._towers.text_lengths:
            tokens = torch.zeros((sizes[0], length), dtype=torch.int64, device=self._device)
            for size in sizes:
                yield self._texts, tokens[:size]

    def _capture_if_it_fits(self, side: GraphedTower, inputs: torch.Tensor, pool: Any) -> None:
        try:
            side.capture(inputs, pool, self._stream)
            return
        except RuntimeError as error:
            # Ending a capture in which memory ran out may fail in its turn.
            if not _is_out_of_memory(error) and not _is_out_of_memory(error.__context__):
                raise
        # Not within the handler: the traceback would keep the failed pass's tensors alive.
        log.info("No memory for a CUDA graph of %d %s", len(inputs), side.name)
        torch.cuda.empty_cache()

    def _pin_cut(self, tokens: Sequence[NDArray[np.int64]]) -> torch.Tensor:
        return torch.from_numpy(self._towers.cut(tokens)).contiguous().pin_memory()

    def _queue_side(self, side: GraphedTower, pinned: torch.Tensor) -> torch.Tensor:
        graph = side.find(tuple(pinned.shape))
        if graph is None:
            features = side.run(pinned.to(self._device, non_blocking=True))
        else:
            graph.inputs[: len(pinned)].copy_(pinned, non_blocking=True)
            graph.graph.replay()
            features = graph.outputs[: len(pinned)]
        # The allocator gives no pinned memory out again before the copies queued from or to it are
        # done, so neither this nor ``pinned`` has to be kept by hand.
        rows = torch.empty(features.shape, dtype=torch.float32, pin_memory=True)
        return rows.copy_(features, non_blocking=True)


def _is_out_of_memory(error: BaseException | None) -> bool:
    return isinstance(error, torch.OutOfMemoryError)


def _pin_stacked(arrays: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    shape = (len(arrays), *arrays[0].shape)
    pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    np.stack(arrays, out=pinned.numpy())
    return pinned


def _rows(rows: torch.Tensor | None) -> Rows:
    return np.empty((0, 0), np.float32) if rows is None else rows.numpy()
