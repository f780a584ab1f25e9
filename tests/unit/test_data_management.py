"""The story of a message: the outcome of each failure, and the work that is never done twice.

Image host and model are stand-ins here, and each test chooses their results.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_management import Consumer, ProductPipeline
from product_consumer.database.connection import Database
from product_consumer.errors import (
    FatalError,
    ImageRejected,
    ImageUnavailable,
    LedgerUnavailable,
    ProductConsumerError,
    RejectMessage,
    StoreUnavailable,
)
from product_consumer.images.download import FetchedImage, FetchResult, ImageRequest, NotModified
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.rows import ProductChange
from product_consumer.models import Embeddings, Message, ProductRow
from product_consumer.outcomes import Ignored, Outcome, Rejected, Released, RetryLater, Stored
from product_consumer.pipeline.context import new_context
from product_consumer.pipeline.guarded_queue import GuardedQueue
from product_consumer.products.parser import ProductParser
from product_consumer.products.shared_stores import share
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.stores.memory import InMemoryStore
from product_consumer.vectors import Embedding
from tests.support import factories
from tests.support.metrics import finished, received


class StandInFetcher:
    """The URL's last part is the image, unless a test put other bytes or an error under that URL.

    Every image has an ETag, and a request that carries it is answered ``NotModified``.
    """

    def __init__(self) -> None:
        self.errors: dict[str, ProductConsumerError] = {}
        self.images: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def fetch_all(self, requests: Sequence[ImageRequest]) -> list[FetchResult]:
        return [self.errors.get(request.url) or self._respond(request) for request in requests]

    def _respond(self, request: ImageRequest) -> FetchResult:
        data = self.images.get(request.url, request.url.rpartition("/")[2].encode())
        etag = hashlib.sha256(data).hexdigest()[:8]
        if request.etag == etag:
            return NotModified()
        self.fetched.append(request.url)
        return FetchedImage(data, etag)


class StandInDecoder:
    def decode(self, data: bytes, _shorter_side_pixels: int | None) -> bytes:
        return data


class StandInEmbedder:
    """Embeddings that follow from the name; fails as a test tells it to."""

    shorter_side_pixels = None

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.passes: list[list[str]] = []
        self.texts: list[str] = []
        self.fail: Callable[[str], Exception | None] = lambda _name: None

    def tokenise(self, name: str) -> str:
        return name

    def prepare(self, _pixels: object, tokens: str) -> str:
        return tokens

    def embed(self, names: Sequence[str], *, alone: bool = False) -> list[Embeddings | Exception]:
        if names:
            self.passes.append(list(names))
        self.embedded += names
        results: list[Embeddings | Exception] = []
        for name in names:
            error = self.fail(name)
            if isinstance(error, FatalError):
                raise error
            results.append(error or factories.embeddings(len(name)))
        return results

    def embed_text(self, name: str) -> Embedding:
        self.texts.append(name)
        return factories.embeddings(len(name)).text


class Rig:
    """A pipeline over a real ledger, an in-memory queue and store, and stand-ins."""

    def __init__(self, directory: Path) -> None:
        self.queue = InMemoryQueue()
        self.fetcher = StandInFetcher()
        self.embedder = StandInEmbedder()
        self.store = InMemoryStore()
        self.stopping = threading.Event()
        self.context = new_context(self.stopping)
        self.metrics = self.context.metrics
        self.in_flight = InFlightTracker(self.queue, 30)
        self.ledger_file = directory / "products.db"
        database = Database(f"sqlite:///{self.ledger_file}", timeout_seconds=5, connections=4)
        self.ledger = Ledger(database, repair_horizon_seconds=300)
        self.ledger.setup()
        self.store.setup(self.ledger.claim_model("stand-in", 768))

    def pipeline(self, store: Any = None, **options: Any) -> ProductPipeline:
        components: dict[str, Any] = {
            "parser": ProductParser(default_currency="VND", source_timezone="UTC"),
            "fetcher": self.fetcher,
            "decoder": StandInDecoder(),
            "embedder": self.embedder,
            "shared": share(self.ledger, [store or self.store], self.context),
            "in_flight": self.in_flight,
            "context": self.context,
        }
        return ProductPipeline(**components, max_attempts=8, **options)

    def process(self, *messages: Message, store: Any = None) -> list[Outcome]:
        with self.in_flight.track(messages):
            return self.pipeline(store).process(messages)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.ledger.close()


def product_message(product_id: str = "abc123", *, receive_count: int = 1, **body: Any) -> Message:
    url = f"http://images.example/{product_id}.jpg"
    text = json.dumps(factories.product_body(**{"id": product_id, "image_url": url} | body))
    return factories.message(text, receive_count=receive_count)


def test_a_good_message_is_stored_everywhere(rig: Rig) -> None:
    assert rig.process(product_message()) == [Stored("abc123")]

    assert rig.ledger.revisions(["abc123"]) == {"abc123": 1}
    assert rig.store.read_revisions(["abc123"]) == {"abc123": 1}
    assert len(rig.ledger.price_history("abc123")) == 1


def test_one_bad_message_does_not_harm_its_batch(rig: Rig) -> None:
    outcomes = rig.process(product_message("a"), factories.message("{"), product_message("b"))

    assert [type(outcome) for outcome in outcomes] == [Stored, Rejected, Stored]
    assert outcomes[1] == Rejected("validate", "json_invalid", outcomes[1].detail)  # type: ignore[union-attr]


def test_on_stored_is_called_with_stored_products_only(rig: Rig) -> None:
    stored: list[str] = []
    pipeline = rig.pipeline(on_stored=lambda product: stored.append(product.id))
    messages = [product_message("good"), factories.message("{")]
    with rig.in_flight.track(messages):
        pipeline.process(messages)

    assert stored == ["good"]


def test_a_second_delivery_costs_neither_a_download_nor_a_forward_pass(rig: Rig) -> None:
    message = product_message()
    rig.process(message)
    rig.process(message)

    assert len(rig.fetcher.fetched) == 1
    assert len(rig.embedder.embedded) == 1
    assert rig.ledger.revisions(["abc123"]) == {"abc123": 1}


def test_a_price_that_changes_alone_costs_neither_a_download_nor_a_forward_pass(
    rig: Rig,
) -> None:
    rig.process(product_message(version=1, price="1000 VND"))
    rig.process(product_message(version=2, price="2000 VND"))

    assert len(rig.fetcher.fetched) == 1
    assert len(rig.embedder.embedded) == 1
    row = rig.ledger.rows(["abc123"])["abc123"]
    assert (row.price_minor, row.revision) == (2000, 2)
    assert row.embeddings is not None


def test_the_same_bytes_behind_a_new_url_are_not_embedded_again(rig: Rig) -> None:
    rig.process(product_message(version=1))
    moved = "http://other.example/moved.jpg"
    rig.fetcher.images[moved] = b"abc123.jpg"
    rig.process(product_message(version=2, image_url=moved))

    assert len(rig.embedder.embedded) == 1
    assert rig.ledger.rows(["abc123"])["abc123"].image_url == moved


def test_new_bytes_behind_the_same_url_are_embedded_again(rig: Rig) -> None:
    rig.process(product_message(version=1))
    rig.fetcher.images["http://images.example/abc123.jpg"] = b"another image"
    rig.process(product_message(version=2))

    assert len(rig.embedder.embedded) == 2


def test_a_new_name_for_a_known_image_costs_its_text_only(rig: Rig) -> None:
    rig.process(product_message(version=1, name="Old"))
    before = rig.ledger.rows(["abc123"])["abc123"].embeddings
    rig.process(product_message(version=2, name="A new name"))
    after = rig.ledger.rows(["abc123"])["abc123"].embeddings

    assert len(rig.embedder.embedded) == 1
    assert rig.embedder.texts == ["A new name"]
    assert before is not None
    assert after is not None
    assert float(before.image @ after.image) > 0.9999
    assert float(before.text @ after.text) < 0.9


def test_one_image_of_two_products_is_embedded_once(rig: Rig) -> None:
    shared = "http://images.example/placeholder.jpg"
    rig.process(product_message("a", image_url=shared))
    rig.process(product_message("b", image_url=shared, name="Other"))

    assert len(rig.embedder.embedded) == 1
    assert rig.embedder.texts == ["Other"]


def test_embeddings_of_another_model_are_not_reused(rig: Rig) -> None:
    rig.process(product_message(version=1))
    with sqlite3.connect(rig.ledger_file) as connection:
        connection.execute("UPDATE products SET model_id = 'another'")
    connection.close()
    rig.process(product_message(version=2))

    assert len(rig.embedder.embedded) == 2


def test_an_older_message_writes_the_newest_state_again(rig: Rig) -> None:
    rig.process(product_message(name="New", version=2))
    lost = InMemoryStore()
    outcomes = rig.process(product_message(name="Old", version=1), store=lost)

    assert outcomes == [Stored("abc123")]
    assert lost.search_keywords("new", 1)
    assert not lost.search_keywords("old", 1)


def test_two_versions_in_one_batch_leave_the_newer_one(rig: Rig) -> None:
    outcomes = rig.process(
        product_message(name="New", version=2), product_message(name="Old", version=1)
    )

    assert outcomes == [Stored("abc123"), Stored("abc123")]
    assert rig.ledger.rows(["abc123"])["abc123"].name == "New"
    assert rig.store.search_keywords("new", 1)


def test_a_tombstone_takes_the_product_out_of_the_stores(rig: Rig) -> None:
    rig.process(product_message(version=1))
    body = json.dumps({"id": "abc123", "deleted": True, "version": 2})

    assert rig.process(factories.message(body)) == [Stored("abc123")]
    assert rig.store.read_revisions(["abc123"]) == {}


def test_an_image_that_is_refused_rejects_its_message_with_the_reason(rig: Rig) -> None:
    rig.fetcher.errors["http://images.example/abc123.jpg"] = ImageRejected("not_an_image", "HTML")

    assert rig.process(product_message()) == [Rejected("fetch_image", "not_an_image", "HTML")]


def test_an_image_server_that_is_down_delays_the_message(rig: Rig) -> None:
    rig.fetcher.errors["http://images.example/abc123.jpg"] = ImageUnavailable("http_503")
    [outcome] = rig.process(product_message())

    assert isinstance(outcome, RetryLater)
    assert outcome.reason == "http_503"
    assert outcome.delay_seconds >= 5


def test_the_delay_that_a_server_asks_for_is_kept(rig: Rig) -> None:
    unavailable = ImageUnavailable("http_429", delay_seconds=77.0)
    rig.fetcher.errors["http://images.example/abc123.jpg"] = unavailable

    assert rig.process(product_message()) == [RetryLater(77.0, "fetch_image", "http_429")]


def test_retries_end_at_the_limit_of_attempts(rig: Rig) -> None:
    rig.fetcher.errors["http://images.example/abc123.jpg"] = ImageUnavailable("http_503")
    [outcome] = rig.process(product_message(receive_count=8))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "retries_exhausted:http_503"


def test_an_error_may_have_a_limit_and_a_last_reason_of_its_own(rig: Rig) -> None:
    gone = ImageUnavailable("http_404", max_attempts=3, final_reason="http_404")
    rig.fetcher.errors["http://images.example/abc123.jpg"] = gone
    second, third = (rig.process(product_message(receive_count=count))[0] for count in (2, 3))

    assert isinstance(second, RetryLater)
    assert isinstance(third, Rejected)
    assert third.reason == "http_404"


def test_a_test_event_is_ignored(rig: Rig) -> None:
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}

    [outcome] = rig.process(factories.message(json.dumps(event)))
    assert isinstance(outcome, Ignored)


@pytest.mark.parametrize(("receive_count", "expected"), [(1, RetryLater), (3, Rejected)])
def test_a_bug_of_ours_is_retried_a_few_times_then_rejected_by_its_type(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, receive_count: int, expected: type[Outcome]
) -> None:
    def bug(_names: Sequence[str], *, alone: bool = False) -> list[Embeddings | Exception]:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(rig.embedder, "embed", bug)
    [outcome] = rig.process(product_message(receive_count=receive_count))

    assert isinstance(outcome, expected)
    assert isinstance(outcome, RetryLater | Rejected)
    assert outcome.reason == "unexpected:ZeroDivisionError"


def test_a_fatal_error_settles_nothing(rig: Rig) -> None:
    rig.embedder.fail = lambda _name: FatalError("the device is gone")

    with pytest.raises(FatalError):
        rig.process(product_message())
    assert rig.ledger.revisions(["abc123"]) == {}


def die_on(rig: Rig, name: str, messages: Sequence[Message]) -> None:
    """Process a batch in a process that dies when it embeds a product of this name."""
    rig.embedder.fail = lambda embedded: FatalError("died") if embedded == name else None
    with pytest.raises(FatalError):
        rig.process(*messages)
    rig.embedder.fail = lambda _name: None
    with closing(sqlite3.connect(rig.ledger_file)) as connection:
        connection.execute("UPDATE suspects SET process = 'on a machine that is gone'")
        connection.commit()


def test_messages_that_a_process_died_with_are_embedded_alone_afterwards(rig: Rig) -> None:
    batch = [product_message(name, name=name) for name in ("a", "poison", "b")]
    die_on(rig, "poison", batch)
    rig.embedder.passes.clear()
    fresh = product_message("c", name="c")
    rig.process(*batch, fresh)

    assert rig.embedder.passes == [["c"], ["a"], ["poison"], ["b"]]


def test_an_innocent_that_died_in_a_batch_is_stored_in_the_end(rig: Rig) -> None:
    batch = [product_message(name, name=name) for name in ("innocent", "poison")]
    for _ in range(3):
        die_on(rig, "poison", batch)

    assert rig.process(batch[0]) == [Stored("innocent")]


def test_a_message_that_two_processes_died_on_alone_is_rejected(rig: Rig) -> None:
    poison = product_message("poison", name="poison")
    die_on(rig, "poison", [product_message("a"), poison])
    for _ in range(2):
        die_on(rig, "poison", [poison])
    [outcome] = rig.process(poison)

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "crash_suspect"


def test_a_message_that_ends_well_is_no_suspect_any_more(rig: Rig) -> None:
    first = product_message("unlucky", name="unlucky")
    for version in range(1, 6):
        url = f"http://images.example/{version}.jpg"
        again = product_message("unlucky", name="unlucky", version=version, image_url=url)
        body = str(again.body)
        message = replace(first, body=body)
        die_on(rig, "unlucky", [message])
        assert rig.process(message) == [Stored("unlucky")]


def test_an_ordinary_failure_leaves_no_suspects(rig: Rig) -> None:
    rig.embedder.fail = lambda _name: RejectMessage("embedding_invalid", "NaN")
    message = product_message()
    rig.process(message)
    rig.embedder.passes.clear()
    rig.process(message, product_message("b"))

    assert len(rig.embedder.passes) == 1


class FailingStore(InMemoryStore):
    """Fails as many writes as it is told to, each with the given error."""

    def __init__(self, error: ProductConsumerError, times: int = 1) -> None:
        super().__init__()
        self.error, self.times = error, times

    def write(self, rows: Sequence[ProductRow]) -> Any:
        if self.times > 0:
            self.times -= 1
            raise self.error
        return super().write(rows)


def test_messages_in_hand_wait_for_a_store_that_comes_back(rig: Rig) -> None:
    store = FailingStore(StoreUnavailable("memory", "connection refused"), times=2)

    assert rig.process(product_message(), store=store) == [Stored("abc123")]
    assert len(rig.embedder.embedded) == 1


def test_messages_are_released_when_a_store_is_down_at_the_stop(rig: Rig) -> None:
    rig.stopping.set()
    store = FailingStore(StoreUnavailable("memory", "connection refused"))
    [outcome] = rig.process(product_message(), store=store)

    assert isinstance(outcome, Released)


def test_a_store_that_refuses_one_product_rejects_only_its_message(rig: Rig) -> None:
    class Picky(InMemoryStore):
        def write(self, rows: Sequence[ProductRow]) -> Any:
            super().write([row for row in rows if row.id != "bad"])
            return (
                {"bad": RejectMessage("store_rejected", "no")}
                if any(row.id == "bad" for row in rows)
                else {}
            )

    outcomes = rig.process(product_message("good"), product_message("bad"), store=Picky())

    assert outcomes == [Stored("good"), Rejected("store", "store_rejected", "no")]


def test_a_row_that_was_overtaken_while_it_was_written_is_written_again(rig: Rig) -> None:
    newer = factories.product(name="Newer", version=factories.version(9))

    class Overtaken(InMemoryStore):
        def write(self, rows: Sequence[ProductRow]) -> Any:
            if rig.ledger.revisions(["abc123"])["abc123"] == 1:
                rig.ledger.record([ProductChange(newer, factories.embeddings(9))])
            return super().write(rows)

    store = Overtaken()

    assert rig.process(product_message(version=1), store=store) == [Stored("abc123")]
    assert store.read_revisions(["abc123"]) == {"abc123": 2}


def test_a_message_delivered_again_elsewhere_writes_nothing(rig: Rig) -> None:
    message = product_message()
    outcomes = rig.pipeline().process([message])

    assert isinstance(outcomes[0], Released)
    assert rig.ledger.revisions(["abc123"]) == {}


def test_a_ledger_that_is_busy_releases_the_batch_at_the_stop(rig: Rig) -> None:
    rig.stopping.set()
    with sqlite3.connect(rig.ledger_file) as connection:
        connection.execute("ALTER TABLE products RENAME TO hidden")
    connection.close()
    [outcome] = rig.process(product_message())

    assert isinstance(outcome, Released)
    assert LedgerUnavailable.__name__ not in outcome.reason


def consume(rig: Rig, until: Callable[[], bool]) -> None:
    """Run one consumer until the condition holds."""
    consumer = Consumer(
        1,
        GuardedQueue(rig.queue, rig.in_flight, rig.context),
        rig.pipeline(),
        rig.context,
        batch_size=10,
        wait_seconds=0,
    )
    thread = threading.Thread(target=consumer.consume, args=(rig.stopping,))
    thread.start()
    waited = threading.Event()
    for _ in range(200):
        if until():
            break
        waited.wait(0.05)
    rig.stopping.set()
    thread.join(10)
    assert until(), "the consumer did not get there in time"


def test_the_loop_acknowledges_stored_messages_and_dead_letters_invalid_ones(
    rig: Rig,
) -> None:
    rig.queue.send(str(product_message("good").body))
    rig.queue.send("not json")
    consume(rig, lambda: finished(rig.metrics) == 2)

    assert rig.queue.backlog().is_empty
    assert [letter.attributes["reason"] for letter in rig.queue.dead_letters] == ["json_invalid"]
    assert rig.store.read_revisions(["good"]) == {"good": 1}


def test_the_loop_logs_its_start_and_each_message(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rig.queue.send(str(product_message().body))
    consume(rig, lambda: finished(rig.metrics) == 1)

    assert "Thread 1 started consuming from memory..." in caplog.messages
    assert "Thread 1 processed ID: abc123" in caplog.messages


def test_messages_of_a_long_poll_that_returns_after_the_stop_are_released(rig: Rig) -> None:
    class StopsWhileReceiving(InMemoryQueue):
        def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
            messages = super().receive(max_messages, wait_seconds)
            rig.stopping.set()
            return messages

    rig.queue = StopsWhileReceiving()
    rig.queue.send(str(product_message().body))
    consume(rig, rig.stopping.is_set)

    assert rig.queue.backlog().visible == 1
    assert received(rig.metrics) == 0


def test_a_queue_that_does_not_answer_is_asked_again(rig: Rig) -> None:
    rig.queue.send(str(product_message().body))
    rig.queue.available = False
    threading.Timer(0.3, setattr, (rig.queue, "available", True)).start()
    consume(rig, lambda: finished(rig.metrics) == 1)

    assert rig.queue.backlog().is_empty
