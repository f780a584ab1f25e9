"""The process that ``benchmarks.gil`` measures: the real worker, whose decoder and device sleep.

Started by ``benchmarks.gil`` with the settings in the environment; not to be run by hand.
Everything else is what ``thread_runner.py`` runs: consumers, supervisor, sweeper, quality checks,
log lines. Writes a JSON report of its windows and stops itself.
"""

import argparse
import json
import logging
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import thread_runner
from benchmarks.support.gil_meter import Shim, Spent, Steps
from product_consumer.demo import tiny_model
from product_consumer.embedding import embedder
from product_consumer.embedding.batcher import Batcher
from product_consumer.embedding.embedder import Embedder
from product_consumer.embedding.forward_pass import ItemEmbeddings
from product_consumer.embedding.loading import LoadedModel, load_model
from product_consumer.embedding.preprocessing import PreparedItem
from product_consumer.images.decoder import ImageDecoder
from product_consumer.images.fetcher import ImageFetcher
from product_consumer.ledger.in_progress import InProgress
from product_consumer.ledger.ledger import Ledger
from product_consumer.metrics import Metrics
from product_consumer.products.parser import ProductParser
from product_consumer.quality.background import Background
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.sqs.queue import SqsQueue
from product_consumer.runtime.signals import leave
from product_consumer.settings import Settings
from product_consumer.stores.elasticsearch.store import ElasticsearchStore
from product_consumer.stores.milvus.store import MilvusStore

DIMENSION = 768
DECODE_SECONDS = 0.007
PASS_SECONDS = 0.006
ITEM_SECONDS = 0.0008
MAX_BATCH = 64
START_SECONDS = 90.0


class SleepingEmbedder(Embedder):
    """An embedder that tokenises, hands over and waits like the real one; its device sleeps."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__(loaded, max_batch=MAX_BATCH)
        self.model_id, self.dimension = "asleep", DIMENSION
        self._pixels = np.zeros((336, 336, 3), dtype=np.uint8)
        rows = np.random.default_rng(1).standard_normal((MAX_BATCH, DIMENSION))
        self._unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        self._batcher.close(1.0)
        self._batcher = Batcher(
            self._run, name="model", max_batch=MAX_BATCH, max_waiting=4 * MAX_BATCH
        )

    def prepare(self, _image: Any, tokens: Any) -> PreparedItem:
        return PreparedItem(self._pixels, tokens)

    def try_out(self, _batch_sizes: Sequence[int] = ()) -> None:
        """Find no fault: there is no model to try, and items alone get equal embeddings."""

    def _run(self, items: Sequence[PreparedItem]) -> list[ItemEmbeddings | Exception]:
        self._runner.on_pass(len(items))
        time.sleep(PASS_SECONDS + ITEM_SECONDS * len(items))
        unit = self._unit
        return [ItemEmbeddings(text=unit[i], image=unit[-1 - i]) for i in range(len(items))]


def load_sleeping_embedder(_settings: Settings) -> SleepingEmbedder:
    with tempfile.TemporaryDirectory() as scratch:
        named = tiny_model.settings(Path(scratch))
        return SleepingEmbedder(load_model(Settings(device="cpu", **named)))


def decode(_decoder: ImageDecoder, _data: bytes, *_options: Any) -> None:
    time.sleep(DECODE_SECONDS)


REPLACED: tuple[tuple[Any, str, Any], ...] = (
    (embedder, "load_embedder", load_sleeping_embedder),
    (ImageDecoder, "decode", decode),
)
WATCHED: tuple[tuple[Any, str, str], ...] = (
    (SqsQueue, "receive", "receive"),
    (SqsQueue, "acknowledge", "acknowledge"),
    (ProductParser, "parse", "validate"),
    (Ledger, "look_up", "ledger: look up"),
    (Ledger, "image_embeddings", "ledger: image embeddings"),
    (Ledger, "record", "ledger: record"),
    (Ledger, "revisions", "ledger: revisions"),
    (InProgress, "start", "in progress: start"),
    (InProgress, "finish", "in progress: finish"),
    (ImageFetcher, "fetch_all", "fetch images"),
    (ImageDecoder, "decode", "decode (asleep)"),
    (Embedder, "tokenise", "tokenise"),
    (Embedder, "embed", "hand over to the batcher"),
    (MilvusStore, "write", "Milvus"),
    (ElasticsearchStore, "write", "Elasticsearch"),
    (Metrics, "count_outcome", "metrics: outcome"),
    (Metrics, "count_flags", "metrics: flags"),
    (InFlightTracker, "stop_extending", "in flight: stop extending"),
    (InFlightTracker, "is_held", "in flight: is held"),
    (Background, "put", "quality: hand over"),
    (logging.Logger, "handle", "log lines"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """All counters at one moment."""

    at: float
    process_ns: int
    acknowledged: int
    threads: dict[str, Spent]
    steps: dict[str, Spent]


class Measuring:
    """Samples the worker's counters from a thread of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._acknowledged: Counter[int] = Counter()
        try:
            self._shim: Shim | None = Shim()
        except LookupError:
            self._shim = None
        self._steps = Steps(self._shim)
        self._missing: list[str] = []

    def count_acknowledged(self) -> None:
        """Count, per thread, the messages that are deleted from the queue."""
        acknowledge: Callable[..., None] = SqsQueue.acknowledge

        def counting(queue: SqsQueue, messages: Sequence[Any]) -> None:
            acknowledge(queue, messages)
            self._acknowledged[threading.get_ident()] += len(messages)

        setattr(SqsQueue, "acknowledge", counting)  # noqa: B010

    def run(self) -> None:
        """Warm up, measure the windows and one more by step; then stop the worker."""
        options = self._options
        try:
            self._wait_until(options.warm_up)
            windows = [self._window(options.seconds) for _ in range(options.windows)]
            for owner, name, step in WATCHED:
                if not self._steps.watch(owner, name, step):
                    self._missing.append(f"{owner.__name__}.{name}")
            # Calls that began before this do not count.
            time.sleep(1.0)
            report = {
                "has_shim": self._shim is not None,
                "windows": windows,
                "steps": self._window(options.seconds),
                "missing": self._missing,
            }
            options.report.write_text(json.dumps(report), encoding="utf-8")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def _wait_until(self, messages: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while sum(self._acknowledged.values()) < messages:
            if time.monotonic() > deadline:
                raise TimeoutError("the worker does not start working: see its log")
            time.sleep(0.1)

    def _window(self, seconds: float) -> dict[str, Any]:
        before = self._sample()
        time.sleep(seconds)
        after = self._sample()
        return {
            "seconds": after.at - before.at,
            "messages": after.acknowledged - before.acknowledged,
            "process_ns": after.process_ns - before.process_ns,
            "threads": _differences(before.threads, after.threads),
            "steps": _differences(before.steps, after.steps),
        }

    def _sample(self) -> Sample:
        return Sample(
            time.monotonic(),
            time.process_time_ns(),
            sum(self._acknowledged.values()),
            self._by_kind() if self._shim else {},
            self._steps.totals(),
        )

    def _by_kind(self) -> dict[str, Spent]:
        kinds = {thread.native_id: _kind(thread) for thread in threading.enumerate()}
        by_kind: dict[str, Spent] = {}
        for thread_id, spent in self._shim.of_threads().items() if self._shim else ():
            kind = kinds.get(thread_id, "threads of libraries")
            by_kind[kind] = by_kind.get(kind, Spent()) + spent
        return by_kind


def _kind(thread: threading.Thread) -> str:
    """A thread's name without its number."""
    return thread.name.split(" (")[0].rstrip("0123456789-_ ")


def _differences(before: dict[str, Spent], after: dict[str, Spent]) -> dict[str, Any]:
    return {name: asdict(spent - before.get(name, Spent())) for name, spent in after.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Started by benchmarks.gil.")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--warm-up", type=int, required=True, help="messages")
    parser.add_argument("--windows", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--core", type=int, help="the only one to run on")
    options = parser.parse_args()
    if options.core is not None:
        # Before any thread is started: they inherit it.
        os.sched_setaffinity(0, {options.core})
    for owner, name, replacement in REPLACED:
        setattr(owner, name, replacement)
    measuring = Measuring(options)
    measuring.count_acknowledged()
    threading.Thread(target=measuring.run, name="measuring", daemon=True).start()
    # As the program does: a regular end of the interpreter takes seconds.
    leave(thread_runner.main(["--threads", str(options.threads)]))


if __name__ == "__main__":
    main()
