"""The components of a stage, built from settings and options, closed in reverse order."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from product_consumer.images.decoder import ImageDecoder
from product_consumer.queues.base import MessageQueue
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.worker import Worker
from product_consumer.settings import Settings
from product_consumer.streams.alerts.targets import OtherPlace
from product_consumer.streams.anomaly.options import DEFAULT_DETECTOR, DetectorOptions
from product_consumer.streams.labels.prompts import Templates
from product_consumer.streams.labels.reading import LabelFile
from product_consumer.streams.results import ResultStore
from product_consumer.streams.stages.base import Outlets, Stage, StagePipeline
from product_consumer.streams.stages.guard import StageGuard
from product_consumer.streams.stages.names import StageName
from product_consumer.streams.stages.outlets import Outlet, StreamSender
from product_consumer.streams.stages.pictures import PictureDecoder
from product_consumer.streams.tracing import open_tracing
from product_consumer.streams.worker import run_stream

if TYPE_CHECKING:
    from product_consumer.embedding.embedder import Embedder
    from product_consumer.streams.stages.features import Embedding

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StageOptions:
    """The options of a stage that are checked already."""

    name: StageName
    source: AmqpUrl
    """The queue whose messages are worked on."""
    out: AmqpUrl | None = None
    results: AmqpUrl | None = None
    labels: LabelFile | None = None
    """For ``classify``, which needs them."""
    templates: Templates = field(default_factory=lambda: Templates.SIMPLE)
    min_score: float = 0.0
    detector: DetectorOptions = DEFAULT_DETECTOR
    """For ``anomaly``."""
    alerts: AmqpUrl | OtherPlace | None = None
    """For ``anomaly``: a queue, or another place."""


class StageComponents:
    """Everything that a stage needs beside the queue of its messages. One thread opens and closes.

    Call the steps in their order; each may raise ``Unavailable`` and be called again, or
    ``ConfigurationError``.
    """

    store: ResultStore
    stage: Stage

    def __init__(self, options: StageOptions, settings: Settings, worker: Worker) -> None:
        self._options = options
        self._settings = settings
        self._context = worker.context
        self._database = worker.database
        self._closing = ExitStack()
        self._guard = StageGuard(
            worker.database,
            worker.context,
            stage=options.name.value,
            queue_name=options.source.queue,
        )
        self._embedder: Embedder | None = None
        self.outlets = Outlets(self._outlet(options.out), self._outlet(options.results))
        self._alert_queue = self._outlet(
            options.alerts if isinstance(options.alerts, AmqpUrl) else None
        )

    def opening_steps(self) -> Sequence[Callable[[], object]]:
        """Return what a worker calls, in order."""
        open_queues = [outlet.open for outlet in self.outlets.all]
        if self._alert_queue is not None:
            open_queues.append(self._alert_queue.open)
        # The model last: it takes long, and what is wrong elsewhere is told at once.
        return (self.open_results, *open_queues, self.open_stage)

    def open_results(self) -> None:
        """Create or check the tables."""
        store = ResultStore(self._database)
        store.setup()
        self._guard.setup()
        store.probe()
        self.store = store

    def open_stage(self) -> None:
        """Load what the work of the stage needs."""
        match self._options.name:
            case StageName.PREPROCESS:
                self.stage = self._preprocess()
            case StageName.FEATURES:
                from product_consumer.streams.stages.features import FeaturesStage

                self.stage = FeaturesStage(self._embedding())
            case StageName.CLASSIFY:
                self.stage = self._classify()
            case StageName.ANOMALY:
                self.stage = self._anomaly()

    def pipeline(self, queue_name: str, in_flight: InFlightTracker) -> StagePipeline:
        """Return the pipeline; everything must be open."""
        return StagePipeline(
            self.stage,
            self.outlets,
            self.store,
            in_flight,
            self._context,
            max_attempts=self._settings.max_attempts,
            tracing=open_tracing(queue_name),
        )

    def model_failure(self) -> str | None:
        """Return why the model cannot work any more; None while it can."""
        failed = self._embedder is not None and self._embedder.failed
        return "the model thread died" if failed else None

    def leave(self) -> None:
        """Record that the process ends by its own decision."""
        self._guard.leave()

    @property
    def answer_seconds(self) -> float:
        """Longest time until the model answers; 0 without a model."""
        return 0.0 if self._embedder is None else self._embedder.answer_seconds

    def close(self) -> None:
        """Close everything that was opened, last opened first."""
        self._closing.close()

    def _outlet(self, url: AmqpUrl | None) -> Outlet | None:
        if url is None:
            return None
        outlet = Outlet(url.queue, partial(_open_sender, url, self._settings))
        self._closing.callback(outlet.close)
        return outlet

    def _preprocess(self) -> Stage:
        # Imported here and below: torch takes seconds, and what is wrong is told before.
        from product_consumer.embedding.preprocessing import load_resizer
        from product_consumer.streams.stages.preprocess import Preprocess

        settings = self._settings
        return Preprocess(
            self._pictures(),
            load_resizer(settings),
            self._guard,
            max_image_bytes=settings.image_max_bytes,
        )

    def _classify(self) -> Stage:
        from product_consumer.streams.labels.embedding import label_embeddings
        from product_consumer.streams.labels.scoring import LabelScorer
        from product_consumer.streams.stages.classify import Classify

        options, embedding, embedder = self._options, self._embedding(), self._loaded()
        if options.labels is None:
            raise ValueError("the stage classify needs labels")
        kept_in, stopping = self._settings.data_dir / "labels", self._context.stopping
        vectors = label_embeddings(options.labels, options.templates, embedder, kept_in, stopping)
        scorer = LabelScorer(
            options.labels.labels,
            vectors,
            model_id=embedder.model_id,
            logit_scale=embedder.logit_scale,
            min_score=options.min_score,
        )
        return Classify(embedding, scorer)

    def _anomaly(self) -> Stage:
        from product_consumer.streams.alerts.opening import open_sink
        from product_consumer.streams.anomaly.opening import KeptDetector
        from product_consumer.streams.anomaly.stage import AnomalyStage

        options, settings, sink = self._options, self._settings, None
        if options.alerts is not None and not isinstance(options.alerts, AmqpUrl):
            sink = open_sink(options.alerts, settings, self._context.metrics.count_alert)
            sink.start()
            self._closing.callback(sink.close)
        detector = KeptDetector(settings.data_dir, options.source.queue, options.detector)
        detector.open()
        self._closing.callback(detector.close)
        return AnomalyStage(detector, self._context, sink=sink, queue=self._alert_queue)

    def _embedding(self) -> "Embedding":
        from product_consumer.streams.stages.features import Embedding

        most_bytes = self._settings.image_max_bytes
        return Embedding(self._pictures(), self._loaded(), self._guard, max_image_bytes=most_bytes)

    def _pictures(self) -> PictureDecoder:
        most = self._settings.image_max_pixels
        return PictureDecoder(ImageDecoder(max_pixels=most), most)

    def _loaded(self) -> "Embedder":
        from product_consumer.embedding.embedder import load_embedder

        if self._embedder is None:
            embedder = load_embedder(self._settings)
            self._closing.callback(embedder.close)
            log.info("Model ready, warmed up in %.1f s", embedder.warm_up())
            # Only now: the warm-up is no pass of a message.
            embedder.watch_passes(self._context.metrics.observe_forward_pass)
            self._embedder = embedder
        return self._embedder


def run_stage(
    options: StageOptions, settings: Settings, *, threads: int, until_empty: bool = False
) -> int:
    """Work on the messages of a queue until stopped, or until it is empty; return the exit code."""

    def open_stage(worker: Worker, queue: MessageQueue, in_flight: InFlightTracker) -> Stream:
        components = worker.open(StageComponents(options, settings, worker))
        return Stream(
            open_tracing(options.source.queue).watch(queue),
            in_flight,
            components.pipeline(options.source.queue, in_flight),
            failure=components.model_failure,
            leave=components.leave,
            answer_seconds=components.answer_seconds,
        )

    return run_stream(
        options.source, settings, open_stage, threads=threads, until_empty=until_empty
    )


def _open_sender(url: AmqpUrl, settings: Settings) -> StreamSender:
    # Imported here: a wrong setting is reported before the client is loaded.
    from product_consumer.queues.rabbitmq.opening import open_stream_sender

    return open_stream_sender(url, settings)
