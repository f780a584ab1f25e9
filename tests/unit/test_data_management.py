"""The story of a message: which outcome each failure leads to, and what is never done twice.

Image host and model are stand-ins here: they return what a test tells them to.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from data_management import Consumer, ProductPipeline
from product_consumer.errors import (
    FatalError,
    ImageRejected,
    ImageUnavailable,
    LedgerUnavailable,
    ProductConsumerError,
    RejectMessage,
    StoreUnavailable,
)
from product_consumer.in_flight import InFlightTracker
from product_consumer.ledger import Change, Ledger
from product_consumer.metrics import Metrics
from product_consumer.models import (
    Embeddings,
    Ignored,
    Message,
    Outcome,
    ProductRow,
    Rejected,
    Released,
    RetryLater,
    Stored,
)
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.stores.memory import InMemoryStore
from product_consumer.validation import ProductParser
from tests import factories


class StandInFetcher:
    """Returns the URL itself as the image, or the error a test put under that URL."""

    def __init__(self) -> None:
        self.errors: dict[str, ProductConsumerError] = {}
        self.fetched: list[str] = []

    def fetch_all(self, urls: Sequence[str]) -> list[bytes | ProductConsumerError]:
        self.fetched += urls
        return [self.errors.get(url) or url.encode() for url in urls]


class StandInDecoder:
    def decode(self, data: bytes) -> bytes:
        return data


class StandInEmbedder:
    """Vectors that follow from the name; fails as a test tells it to."""

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.fail: Callable[[str], Exception | None] = lambda _name: None

    def prepare(self, _picture: object, name: str) -> str:
        return name

    def embed(self, names: Sequence[str]) -> list[Embeddings | Exception]:
        self.embedded += names
        results: list[Embeddings | Exception] = []
        for name in names:
            error = self.fail(name)
            if isinstance(error, FatalError):
                raise error
            results.append(error or factories.embeddings(len(name)))
        return results


class Bench:
    """A pipeline over a real ledger, an in-memory queue and store, and stand-ins."""

    def __init__(self, directory: Path) -> None:
        self.queue = InMemoryQueue()
        self.fetcher = StandInFetcher()
        self.embedder = StandInEmbedder()
        self.store = InMemoryStore()
        self.metrics = Metrics()
        self.stopping = threading.Event()
        self.in_flight = InFlightTracker(self.queue, 30)
        self.ledger_file = directory / "products.db"
        self.ledger = Ledger(
            f"sqlite:///{self.ledger_file}", repair_horizon_seconds=300, timeout_seconds=5
        )
        self.ledger.setup()
        self.store.setup(self.ledger.claim_model("stand-in", 768))

    def pipeline(self, store: Any = None) -> ProductPipeline:
        parts: dict[str, Any] = {
            "parser": ProductParser(default_currency="VND", source_timezone="UTC"),
            "fetcher": self.fetcher,
            "decoder": StandInDecoder(),
            "embedder": self.embedder,
            "ledger": self.ledger,
            "stores": [store or self.store],
            "in_flight": self.in_flight,
            "metrics": self.metrics,
            "stopping": self.stopping,
        }
        return ProductPipeline(**parts, max_attempts=8)

    def process(self, *messages: Message, store: Any = None) -> list[Outcome]:
        with self.in_flight.track(messages):
            return self.pipeline(store).process(messages)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.ledger.close()


def product_message(product_id: str = "abc123", *, receive_count: int = 1, **body: Any) -> Message:
    url = f"http://images.example/{product_id}.jpg"
    text = json.dumps(factories.product_body(**{"id": product_id, "image_url": url} | body))
    return factories.message(text, receive_count=receive_count)


def test_a_good_message_is_stored_everywhere(bench: Bench) -> None:
    assert bench.process(product_message()) == [Stored("abc123")]

    assert bench.ledger.revisions(["abc123"]) == {"abc123": 1}
    assert bench.store.read_revisions(["abc123"]) == {"abc123": 1}
    assert len(bench.ledger.price_history("abc123")) == 1


def test_one_bad_message_does_not_harm_its_batch(bench: Bench) -> None:
    outcomes = bench.process(product_message("a"), factories.message("{"), product_message("b"))

    assert [type(outcome) for outcome in outcomes] == [Stored, Rejected, Stored]
    assert outcomes[1] == Rejected("validate", "json_invalid", outcomes[1].detail)  # type: ignore[union-attr]


def test_a_second_delivery_costs_neither_a_download_nor_a_forward_pass(bench: Bench) -> None:
    message = product_message()
    bench.process(message)
    bench.process(message)

    assert len(bench.fetcher.fetched) == 1
    assert len(bench.embedder.embedded) == 1
    assert bench.ledger.revisions(["abc123"]) == {"abc123": 1}


def test_an_older_message_shows_the_newest_state_again(bench: Bench) -> None:
    bench.process(product_message(name="New", version=2))
    lost = InMemoryStore()
    outcomes = bench.process(product_message(name="Old", version=1), store=lost)

    assert outcomes == [Stored("abc123")]
    assert lost.search_keywords("new", 1)
    assert not lost.search_keywords("old", 1)


def test_two_versions_in_one_batch_leave_the_newer_one(bench: Bench) -> None:
    outcomes = bench.process(
        product_message(name="New", version=2), product_message(name="Old", version=1)
    )

    assert outcomes == [Stored("abc123"), Stored("abc123")]
    assert bench.ledger.rows(["abc123"])["abc123"].name == "New"
    assert bench.store.search_keywords("new", 1)


def test_a_tombstone_takes_the_product_out_of_the_stores(bench: Bench) -> None:
    bench.process(product_message(version=1))
    body = json.dumps({"id": "abc123", "deleted": True, "version": 2})

    assert bench.process(factories.message(body)) == [Stored("abc123")]
    assert bench.store.read_revisions(["abc123"]) == {}


def test_an_image_that_is_refused_rejects_its_message_with_the_reason(bench: Bench) -> None:
    bench.fetcher.errors["http://images.example/abc123.jpg"] = ImageRejected("not_an_image", "HTML")

    assert bench.process(product_message()) == [Rejected("fetch_image", "not_an_image", "HTML")]


def test_an_image_server_that_is_down_puts_the_message_off(bench: Bench) -> None:
    bench.fetcher.errors["http://images.example/abc123.jpg"] = ImageUnavailable("http_503")
    [outcome] = bench.process(product_message())

    assert isinstance(outcome, RetryLater)
    assert outcome.reason == "http_503"
    assert outcome.delay_seconds >= 5


def test_the_delay_that_a_server_asks_for_is_kept(bench: Bench) -> None:
    unavailable = ImageUnavailable("http_429", delay_seconds=77.0)
    bench.fetcher.errors["http://images.example/abc123.jpg"] = unavailable

    assert bench.process(product_message()) == [RetryLater(77.0, "fetch_image", "http_429")]


def test_retries_end_at_the_limit_of_attempts(bench: Bench) -> None:
    bench.fetcher.errors["http://images.example/abc123.jpg"] = ImageUnavailable("http_503")
    [outcome] = bench.process(product_message(receive_count=8))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "retries_exhausted:http_503"


def test_an_error_may_have_a_limit_and_a_last_reason_of_its_own(bench: Bench) -> None:
    gone = ImageUnavailable("http_404", max_attempts=3, final_reason="http_404")
    bench.fetcher.errors["http://images.example/abc123.jpg"] = gone
    second, third = (bench.process(product_message(receive_count=count))[0] for count in (2, 3))

    assert isinstance(second, RetryLater)
    assert isinstance(third, Rejected)
    assert third.reason == "http_404"


def test_a_test_event_is_ignored(bench: Bench) -> None:
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}

    [outcome] = bench.process(factories.message(json.dumps(event)))
    assert isinstance(outcome, Ignored)


@pytest.mark.parametrize(("receive_count", "expected"), [(1, RetryLater), (3, Rejected)])
def test_a_bug_of_ours_is_retried_a_few_times_then_rejected_by_its_type(
    bench: Bench, receive_count: int, expected: type[Outcome]
) -> None:
    def bug(_name: str) -> Exception:
        return ZeroDivisionError("ours")

    bench.embedder.embed = lambda names: (_ for _ in ()).throw(bug(""))  # type: ignore[method-assign]
    [outcome] = bench.process(product_message(receive_count=receive_count))

    assert isinstance(outcome, expected)
    assert isinstance(outcome, RetryLater | Rejected)
    assert outcome.reason == "unexpected:ZeroDivisionError"


def test_a_fatal_error_settles_nothing(bench: Bench) -> None:
    bench.embedder.fail = lambda _name: FatalError("the device is gone")

    with pytest.raises(FatalError):
        bench.process(product_message())
    assert bench.ledger.revisions(["abc123"]) == {}


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


def test_messages_in_hand_wait_for_a_store_that_comes_back(bench: Bench) -> None:
    store = FailingStore(StoreUnavailable("memory", "connection refused"), times=2)

    assert bench.process(product_message(), store=store) == [Stored("abc123")]
    assert len(bench.embedder.embedded) == 1


def test_messages_are_released_when_a_store_is_down_at_the_stop(bench: Bench) -> None:
    bench.stopping.set()
    store = FailingStore(StoreUnavailable("memory", "connection refused"))
    [outcome] = bench.process(product_message(), store=store)

    assert isinstance(outcome, Released)


def test_a_store_that_refuses_one_product_rejects_only_its_message(bench: Bench) -> None:
    class Picky(InMemoryStore):
        def write(self, rows: Sequence[ProductRow]) -> Any:
            super().write([row for row in rows if row.id != "bad"])
            return (
                {"bad": RejectMessage("store_rejected", "no")}
                if any(row.id == "bad" for row in rows)
                else {}
            )

    outcomes = bench.process(product_message("good"), product_message("bad"), store=Picky())

    assert outcomes == [Stored("good"), Rejected("store", "store_rejected", "no")]


def test_a_row_that_was_overtaken_while_it_was_written_is_written_again(bench: Bench) -> None:
    newer = factories.product(name="Newer", version=factories.version(9))

    class Overtaken(InMemoryStore):
        def write(self, rows: Sequence[ProductRow]) -> Any:
            if bench.ledger.revisions(["abc123"])["abc123"] == 1:
                bench.ledger.record([Change(newer, factories.embeddings(9))])
            return super().write(rows)

    store = Overtaken()

    assert bench.process(product_message(version=1), store=store) == [Stored("abc123")]
    assert store.read_revisions(["abc123"]) == {"abc123": 2}


def test_a_message_delivered_again_elsewhere_writes_nothing(bench: Bench) -> None:
    message = product_message()
    outcomes = bench.pipeline().process([message])

    assert isinstance(outcomes[0], Released)
    assert bench.ledger.revisions(["abc123"]) == {}


def test_a_ledger_that_is_busy_releases_the_batch_at_the_stop(bench: Bench) -> None:
    bench.stopping.set()
    with sqlite3.connect(bench.ledger_file) as connection:
        connection.execute("ALTER TABLE products RENAME TO hidden")
    connection.close()
    [outcome] = bench.process(product_message())

    assert isinstance(outcome, Released)
    assert LedgerUnavailable.__name__ not in outcome.reason


def consume(bench: Bench, until: Callable[[], bool]) -> None:
    """Run one consumer until the condition holds."""
    consumer = Consumer(
        1,
        bench.queue,
        bench.pipeline(),
        bench.in_flight,
        bench.metrics,
        batch_size=10,
        wait_seconds=0,
    )
    thread = threading.Thread(target=consumer.consume, args=(bench.stopping,))
    thread.start()
    waited = threading.Event()
    for _ in range(200):
        if until():
            break
        waited.wait(0.05)
    bench.stopping.set()
    thread.join(10)
    assert until(), "the consumer did not get there in time"


def test_the_loop_acknowledges_what_is_stored_and_dead_letters_what_never_can_be(
    bench: Bench,
) -> None:
    bench.queue.send(str(product_message("good").body))
    bench.queue.send("not json")
    consume(bench, lambda: bench.metrics.finished() == 2)

    assert bench.queue.backlog().is_empty
    assert [letter.attributes["reason"] for letter in bench.queue.dead_letters] == ["json_invalid"]
    assert bench.store.read_revisions(["good"]) == {"good": 1}


def test_the_loop_says_what_it_did(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench.queue.send(str(product_message().body))
    consume(bench, lambda: bench.metrics.finished() == 1)

    assert "Thread 1 started consuming from memory..." in caplog.messages
    assert "Thread 1 processed ID: abc123" in caplog.messages


def test_what_an_open_long_poll_returns_after_the_stop_is_released(bench: Bench) -> None:
    class StopsWhileReceiving(InMemoryQueue):
        def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
            messages = super().receive(max_messages, wait_seconds)
            bench.stopping.set()
            return messages

    bench.queue = StopsWhileReceiving()
    bench.queue.send(str(product_message().body))
    consume(bench, bench.stopping.is_set)

    assert bench.queue.backlog().visible == 1
    assert bench.metrics.received() == 0


def test_a_queue_that_does_not_answer_is_asked_again(bench: Bench) -> None:
    bench.queue.send(str(product_message().body))
    bench.queue.available = False
    threading.Timer(0.3, setattr, (bench.queue, "available", True)).start()
    consume(bench, lambda: bench.metrics.finished() == 1)

    assert bench.queue.backlog().is_empty
