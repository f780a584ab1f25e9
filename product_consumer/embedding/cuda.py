"""Forward passes on a CUDA device: queued and awaited apart, replayed from graphs where captured.

A pass is queued as copy, kernels and copy back, without waiting for any of them. The next pass can
be queued behind it, and the device goes from one to the other by itself. All passes use one stream.
A second stream could hide the copies, a hundredth of a pass, but would have to be synchronised.

A large vision transformer has some 500 kernels. Launching them one by one takes a CPU longer than a
small batch takes the device; a graph launches them all at once. A graph has fixed shapes, so a
batch runs in the next larger size. The spare rows hold inputs of earlier batches and are ignored.
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
"""Features of a batch, not normalised: shape (count, dimension)."""

# The device is busy with a larger batch for longer than its kernels take to launch. Graphs would
# gain nothing there, and the largest would hold the most memory.
MAX_GRAPH_BATCH = 128
# The first batch waits for the capture. Sizes not captured by then are launched kernel by kernel.
CAPTURE_SECONDS = 25.0
# A graph this much larger than the batch would cost more than launching the kernels.
MAX_PADDING = 2


def graph_sizes(max_batch: int, *, steps_per_octave: int) -> list[int]:
    """Return the batch sizes to capture, largest first.

    Up to 8 these are powers of two; then ``steps_per_octave`` from each power of two to the next.
    """
    limit = min(max_batch, MAX_GRAPH_BATCH)
    sizes, size = {limit}, 1
    while size < limit:
        sizes.add(size)
        octave = 1 << (size.bit_length() - 1)
        size += octave // steps_per_octave if size >= 8 else octave
    return sorted(sizes, reverse=True)


@dataclass(slots=True, eq=False)
class Graph:
    """A captured pass, which reads ``inputs`` and writes ``outputs`` in place."""

    graph: torch.cuda.CUDAGraph
    inputs: torch.Tensor
    outputs: torch.Tensor


class GraphedTower:
    """One tower: its function, and its graphs by the shape of their inputs.

    ``name``: the plural of its inputs, for log lines.
    """

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor], name: str) -> None:
        self.run = run
        self.name = name
        self.graphs: dict[tuple[int, ...], Graph] = {}

    def capture(self, inputs: torch.Tensor, pool: Any, stream: torch.cuda.Stream) -> None:
        """Capture the pass over ``inputs``, whose memory is read again at every replay."""
        # The first run chooses kernels and makes workspaces, which must not happen in a capture.
        self.run(inputs)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use CUDA at the same time, for example for pinned memory.
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            outputs = self.run(inputs)
        self.graphs[tuple(inputs.shape)] = Graph(graph, inputs, outputs)

    def find(self, shape: tuple[int, ...]) -> Graph | None:
        """Return the smallest graph for a batch of this shape, unless it is far too large."""
        sizes = [size for size, *rest in self.graphs if tuple(rest) == shape[1:]]
        fitting = min((size for size in sizes if size >= shape[0]), default=None)
        if fitting is None or fitting > MAX_PADDING * shape[0]:
            return None
        return self.graphs[(fitting, *shape[1:])]


class CudaPasses:
    """Queues batches on one CUDA device. Only one thread may call its methods.

    Lack of memory raises ``torch.OutOfMemoryError``.
    """

    def __init__(self, towers: Towers, device: torch.device, max_batch: int) -> None:
        self._towers = towers
        self._device = device
        self._max_batch = max_batch
        # The weights were put in place on another stream, which this one does not wait for.
        torch.cuda.synchronize(device)
        self._stream = torch.cuda.Stream(device)
        self._images = GraphedTower(towers.encode_images, "images")
        self._texts = GraphedTower(towers.encode_texts, "texts")

    def queue(
        self, pixels: Sequence[NDArray[np.uint8]], tokens: Sequence[NDArray[np.int64]]
    ) -> Callable[[], tuple[Rows, Rows]]:
        """Queue one batch; return a function that waits for the rows of its images and its texts.

        ``pixels``: RGB, uint8, shape (height, width, 3) each. ``tokens``: int64, shape (context,)
        each. Either may be empty, and so are its rows then.
        """
        with torch.cuda.stream(self._stream), torch.inference_mode():
            images = self._queue_side(self._images, _pin_stacked(pixels)) if pixels else None
            texts = self._queue_side(self._texts, self._pin_cut(tokens)) if tokens else None
            # Sleeps instead of spinning: the cores belong to the threads that prepare images.
            done = torch.cuda.Event(blocking=True)
            done.record()

        def wait() -> tuple[Rows, Rows]:
            done.synchronize()
            return _rows(images), _rows(texts)

        return wait

    def capture(self, image_shape: tuple[int, int, int]) -> None:
        """Capture graphs for as many batch sizes as memory and time allow.

        The largest is captured first; smaller graphs then fit into its memory. Where the model or
        the driver does not allow graphs, one warning is logged and kernels are launched singly.

        ``image_shape``: height, width and channels of the model's input.
        """
        started = time.monotonic()
        pool = torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.stream(self._stream), torch.inference_mode():
                for side, inputs in self._inputs_to_capture(image_shape):
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
        log.info("Captured CUDA graphs of %d image and %d text batches in %.1f s", *counts, seconds)

    def _inputs_to_capture(
        self, image_shape: tuple[int, int, int]
    ) -> Iterator[tuple[GraphedTower, torch.Tensor]]:
        sizes = graph_sizes(self._max_batch, steps_per_octave=4)
        pixels = torch.zeros((sizes[0], *image_shape), dtype=torch.uint8, device=self._device)
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
            # After memory ran out in a capture, ending the capture may fail as well.
            if not _is_out_of_memory(error) and not _is_out_of_memory(error.__context__):
                raise
        # Outside the handler: its traceback would keep the failed pass's tensors alive.
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
        # The allocator reuses pinned memory only after the copies queued from or to it are done. So
        # neither ``rows`` nor ``pinned`` has to be kept alive here.
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
