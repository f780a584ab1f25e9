"""What happens to a product message, from the queue to every store, failures included.

    receive -> validate -> fetch image -> embed -> store -> acknowledge

``Consumer`` is the loop: it receives a batch, hands it to a pipeline, and settles each message by
the outcome that came back, exactly once and last. ``ProductPipeline`` is the work in between; any
error becomes an outcome in one place, ``deciding.decide``.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from product_consumer.errors import (
    FatalError,
    QueueUnavailable,
)
from product_consumer.images.decoder import ImageDecoder
from product_consumer.images.fetcher import ImageFetcher
from product_consumer.ledger.in_progress import Suspect, Suspects
from product_consumer.ledger.ledger import Change, Ledger
from product_consumer.metrics import Metrics
from product_consumer.models import Embedding, Embeddings, Message, Product
from product_consumer.outcomes import Ignored, Outcome, Rejected, Released, RetryLater, Stored
from product_consumer.pipeline.backoff import Backoff
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.error_policy import decide
from product_consumer.products.item import Work, unsettled
from product_consumer.products.parser import ProductParser
from product_consumer.products.shared_stores import CombinedLedger, CombinedStore
from product_consumer.queues.base import MessageQueue
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.stores.base import ProductStore
from product_consumer.sync.writer import show

if TYPE_CHECKING:
    # It loads torch, which takes seconds and which a worker for orders alone does without.
    from product_consumer.embedding.embedder import Embedder

log = logging.getLogger(__name__)


class Pipeline(Protocol):
    """Work for one kind of message."""

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order; raises ``FatalError`` only."""
        ...

    def wait_until_ready(self) -> bool:
        """Block while a part that every message needs is down; False when asked to stop."""
        ...


class Consumer:
    """One consumer thread: receives, lets the pipeline work, settles."""

    def __init__(
        self,
        number: int,
        queue: MessageQueue,
        pipeline: Pipeline,
        in_flight: InFlightTracker,
        metrics: Metrics,
        *,
        batch_size: int,
        wait_seconds: int,
    ) -> None:
        self.number = number
        self._queue = queue
        self._pipeline = pipeline
        self._in_flight = in_flight
        self._metrics = metrics
        self._batch_size = batch_size
        self._wait_seconds = wait_seconds
        self._backoff = Backoff(1.0, 30.0)

    def consume(self, stopping: threading.Event) -> None:
        """Receive and process batches until asked to stop; a started batch is always settled."""
        log.info("Thread %d started consuming from %s...", self.number, self._queue.label)
        while not stopping.is_set() and self._pipeline.wait_until_ready():
            try:
                with self._metrics.stage("receive"):
                    messages = self._queue.receive(self._batch_size, self._wait_seconds)
            except QueueUnavailable as error:
                log.warning("Thread %d cannot receive: %s", self.number, error)
                self._backoff.wait(stopping)
                continue
            self._backoff.reset()
            if stopping.is_set():
                self._release(messages)
                break
            self._metrics.count_received(len(messages))
            with self._in_flight.track(messages):
                outcomes = self._pipeline.process(messages) if messages else []
                with self._metrics.stage("settle"):
                    self._settle(messages, outcomes)

    def _settle(self, messages: Sequence[Message], outcomes: Sequence[Outcome]) -> None:
        """Bring each message to its end; a message that the queue does not let go comes back,
        harmlessly.
        """
        for message in messages:
            # An extension that lands after a release would hide the message again.
            self._in_flight.forget(message)
        settled = list(zip(messages, outcomes, strict=True))
        done = [message for message, outcome in settled if isinstance(outcome, Stored | Ignored)]
        if done:
            self._try(self._queue.acknowledge, done)
        self._release([message for message, outcome in settled if isinstance(outcome, Released)])
        for message, outcome in settled:
            if isinstance(outcome, Rejected):
                if self._try(self._queue.reject, message, outcome):
                    self._metrics.count_dead_letter(outcome.reason)
            elif isinstance(outcome, RetryLater):
                self._try(self._queue.retry_later, message, outcome.delay_seconds)
            self._metrics.count_outcome(outcome, message)
            self._report(message, outcome)

    def _release(self, messages: Sequence[Message]) -> None:
        if messages:
            self._try(self._queue.release, messages)

    def _try(self, settle: Callable[..., None], *arguments: Any) -> bool:
        self._metrics.beats.touch()
        try:
            settle(*arguments)
        except QueueUnavailable as error:
            log.warning("Thread %d could not settle, it will come back: %s", self.number, error)
            return False
        return True

    def _report(self, message: Message, outcome: Outcome) -> None:
        match outcome:
            case Stored(product_id):
                log.info("Thread %d processed ID: %s", self.number, product_id)
            case Ignored(reason):
                log.info(
                    "Thread %d ignored message %s: %s", self.number, message.message_id, reason
                )
            case Rejected(stage, reason, detail):
                log.warning(
                    "Thread %d rejected message %s at %s: %s (%s)",
                    *(self.number, message.message_id, stage, reason, detail),
                )
            case RetryLater(delay_seconds, stage, reason):
                log.info(
                    "Thread %d will retry message %s in %.0f s after %s: %s",
                    *(self.number, message.message_id, delay_seconds, stage, reason),
                )
            case Released(reason):
                log.info(
                    "Thread %d released message %s: %s", self.number, message.message_id, reason
                )


class ProductPipeline:
    """Validate, fetch the image, embed, store: every step takes a list and returns what survived
    it.
    """

    def __init__(
        self,
        parser: ProductParser,
        fetcher: ImageFetcher,
        decoder: ImageDecoder,
        embedder: "Embedder",
        ledger: Ledger,
        stores: Sequence[ProductStore],
        in_flight: InFlightTracker,
        metrics: Metrics,
        stopping: threading.Event,
        *,
        max_attempts: int,
        on_stored: Callable[[Product], None] | None = None,
    ) -> None:
        """``on_stored`` is told of every product that all stores have; it must return at once."""
        self._parser = parser
        self._fetcher = fetcher
        self._decoder = decoder
        self._embedder = embedder
        self._suspects = Suspects(ledger.database)
        self._ledger = CombinedLedger(ledger, self._suspects)
        self._stores = [CombinedStore(store) for store in stores]
        self._in_flight = in_flight
        self._metrics = metrics
        self._max_attempts = max_attempts
        self._on_stored = on_stored
        self._one_suspect = threading.Lock()
        probes = {"ledger": ledger.ping} | {store.name: store.ping for store in stores}
        self.breakers = Breakers(probes, stopping, metrics)

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order."""
        batch = [Work(message) for message in messages]
        try:
            valid = self.validate(batch)
            complete, incomplete = self.look_up(valid)
            fetched = self.fetch_images(incomplete)
            reused, fresh = self.reuse(fetched)
            embedded = self.embed_noted(fresh)
            self.store(complete + reused + embedded)
        except FatalError:
            raise
        except Exception as error:
            self.settle_all(batch, "pipeline", error)
        return [work.outcome or Released("left unfinished") for work in batch]

    def wait_until_ready(self) -> bool:
        """Block while a store is down; False when asked to stop."""
        return self.breakers.wait_until_closed()

    def validate(self, batch: list[Work]) -> list[Work]:
        """Turn bodies into products."""
        with self._metrics.stage("validate"):
            for work in batch:
                with self._settling(work, "validate"):
                    work.product = self._parser.parse(work.message)
                    self._metrics.count_flags(work.product.flags)
        return unsettled(batch)

    def look_up(self, valid: list[Work]) -> tuple[list[Work], list[Work]]:
        """Part what can be stored as it is from what needs an image and an embedding first.

        Tombstones carry no image. A message that the ledger equals or outdates leaves history and
        re-drives the newest state, which is in the ledger with its vectors: a second delivery, or
        the retry after a store failed, costs neither a download nor a forward pass.
        """
        with self._metrics.stage("look_up"):
            products = [work.valid_product for work in valid]
            found = self.breakers.call("ledger", lambda: self._ledger.look_up(products))
        complete: list[Work] = []
        incomplete: list[Work] = []
        for work, known in zip(valid, found, strict=True):
            work.known = known.picture
            is_complete = work.valid_product.deleted or known.is_outdated
            (complete if is_complete else incomplete).append(work)
        return complete, incomplete

    def fetch_images(self, incomplete: list[Work]) -> list[Work]:
        """Download the images of a batch side by side; a known one only if it has changed."""
        with self._metrics.stage("fetch_image"):
            results = self._fetcher.fetch_all([work.image_request() for work in incomplete])
            for work, result in zip(incomplete, results, strict=True):
                with self._settling(work, "fetch_image"):
                    work.take_image(result)
        return unsettled(incomplete)

    def reuse(self, fetched: list[Work]) -> tuple[list[Work], list[Work]]:
        """Part what has all its vectors already from what still needs a forward pass.

        The same bytes have the same vector, behind whatever URL and in whatever process: a price
        that changes alone costs no forward pass.
        """
        with self._metrics.stage("reuse"):
            digests = [work.new_digest for work in fetched if work.new_digest is not None]
            images = self.breakers.call("ledger", lambda: self._ledger.image_embeddings(digests))
            for work in fetched:
                image = work.image_embedding(images)
                if image is not None:
                    with self._settling(work, "reuse"):
                        work.embeddings = Embeddings(self._text_embedding(work), image)
                        self._metrics.count_flags(("vectors_reused",))
        going_on = unsettled(fetched)
        reused = [work for work in going_on if work.embeddings is not None]
        return reused, [work for work in going_on if work.embeddings is None]

    def embed_noted(self, fetched: list[Work]) -> list[Work]:
        """Decode and embed; what a process died with in its hands is handled alone."""
        suspects = self._note(fetched)
        together = [work for work in fetched if work.message.message_id not in suspects]
        with self._forgetting(together):
            embedded = self.embed(self.prepare(together))
        for work in fetched:
            if work.message.message_id in suspects:
                embedded += self._embed_alone(work, suspects[work.message.message_id])
        return embedded

    def prepare(self, fetched: list[Work]) -> list[Work]:
        """Decode, resize and tokenise here, in the consumer thread, so that the model never waits
        for it.
        """
        with self._metrics.stage("prepare"):
            # Names first: between pictures the caches are cold, and one took five times as long.
            for work in fetched:
                with self._settling(work, "prepare"):
                    work.tokens = self._embedder.tokenise(work.valid_product.name)
            for work in unsettled(fetched):
                with self._settling(work, "prepare"):
                    shrunk_to = self._embedder.shorter_side_pixels
                    picture = self._decoder.decode(work.image, shrunk_to)
                    work.prepared = self._embedder.prepare(picture, work.tokens)
                    work.image = b""
        return unsettled(fetched)

    def embed(self, prepared: list[Work], *, alone: bool = False) -> list[Work]:
        """One forward pass, shared with whatever other threads have ready unless ``alone``."""
        with self._metrics.stage("embed"):
            items = [work.prepared for work in prepared if work.prepared is not None]
            results = self._embedder.embed(items, alone=alone)
            for work, result in zip(prepared, results, strict=True):
                with self._settling(work, "embed"):
                    work.take_embeddings(result)
        return unsettled(prepared)

    def store(self, ready: list[Work]) -> None:
        """Record the batch, show the current rows in every store, and make sure they still are
        current.
        """
        held = self._drop_lost(ready)
        with self._metrics.stage("ledger"):
            changes = [Change(work.valid_product, work.embeddings, work.picture) for work in held]
            recorded = self.breakers.call("ledger", lambda: self._ledger.record(changes))
        for position, error in recorded.failures.items():
            self.settle_failure(held[position], "ledger", error)
        with self._metrics.stage("stores"):
            failures = show(self._ledger, self._stores, recorded.rows, self.breakers.call)
        for work in unsettled(held):
            failed_store = failures.get(work.valid_product.id)
            if failed_store is None:
                work.outcome = Stored(work.valid_product.id)
                if self._on_stored is not None:
                    self._on_stored(work.valid_product)
            else:
                self.settle_failure(work, "store", failed_store)

    def settle_failure(self, work: Work, stage: str, error: Exception) -> None:
        """Give a message the outcome that its error's class asks for."""
        work.outcome = decide(work.message, stage, error, max_attempts=self._max_attempts)

    def settle_all(self, batch: Iterable[Work], stage: str, error: Exception) -> None:
        """The same, for everything in a batch that has no outcome yet."""
        for work in unsettled(batch):
            self.settle_failure(work, stage, error)

    def _text_embedding(self, work: Work) -> Embedding:
        name = work.valid_product.name
        if work.known is not None and work.known.name == name:
            return work.known.embeddings.text
        return self._embedder.embed_text(name)

    def _note(self, fetched: list[Work]) -> dict[str, Suspect]:
        ids = [work.message.message_id for work in fetched]
        return self.breakers.call("ledger", lambda: self._ledger.note(ids))

    @contextmanager
    def _forgetting(self, works: list[Work]) -> Iterator[None]:
        """Forget a note at the end, unless the process is about to die: then it tells the next."""
        try:
            yield
        except FatalError:
            raise
        except BaseException:
            self._forget(works)
            raise
        self._forget(works)

    def _forget(self, works: list[Work]) -> None:
        ids = [work.message.message_id for work in works]
        self.breakers.call("ledger", lambda: self._ledger.forget(ids))

    def _embed_alone(self, work: Work, suspect: Suspect) -> list[Work]:
        # One suspect at a time in the whole process, or one would die for another.
        with self._one_suspect, self._forgetting([work]):
            with self._settling(work, "embed"):
                suspect.check()
                self.breakers.call("ledger", lambda: self._suspects.note_alone(suspect))
            return self.embed(self.prepare(unsettled([work])), alone=True)

    def _drop_lost(self, ready: list[Work]) -> list[Work]:
        """Let go of messages whose receipt is no longer valid: the next delivery does the work."""
        for work in ready:
            if not self._in_flight.is_held(work.message):
                work.outcome = Released("delivered again elsewhere")
        return unsettled(ready)

    @contextmanager
    def _settling(self, work: Work, stage: str) -> Iterator[None]:
        """An error inside settles this one message and spares its neighbours."""
        self._metrics.beats.touch()
        try:
            yield
        except FatalError:
            raise
        except Exception as error:
            self.settle_failure(work, stage, error)
