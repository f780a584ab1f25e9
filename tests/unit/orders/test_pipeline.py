"""Order messages: counted once, written to Redis, never lost or rejected because of an outage."""

import itertools
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from product_consumer.database.connection import Database
from product_consumer.errors import (
    ConfigurationError,
    LedgerUnavailable,
    ProductConsumerError,
    StoreUnavailable,
)
from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.parser import OrderParser
from product_consumer.orders.pipeline import OrderPipeline
from product_consumer.orders.redis.rebuild import rebuild_stats
from product_consumer.orders.redis.stats import RedisStats
from product_consumer.outcomes import Outcome, Rejected, Released, Stored
from product_consumer.pipeline.context import new_context
from product_consumer.pipeline.hold import Hold
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from tests.support import backends, factories
from tests.support.order_factories import order_text


class FailingStats(RedisStats):
    """A Redis that is down until its error is removed; remembers the keys written."""

    def __init__(self, error: ProductConsumerError) -> None:
        super().__init__("redis://127.0.0.1:1", main_currency="USD", timeout_seconds=1)
        self.error: ProductConsumerError | None = error
        self.written: list[str] = []

    def probe(self) -> None:
        if self.error is not None:
            raise self.error

    def is_filled(self) -> bool:
        self.probe()
        return True

    def write(self, hashes: Any, *, force: bool = False) -> int:
        self.probe()
        self.written += [hash_.key for hash_ in hashes]
        return len(hashes)


class Rig:
    """A pipeline over a real ledger and an in-memory queue."""

    def __init__(
        self, directory: Path, stats: RedisStats | None = None, *, hold_seconds: float = 60.0
    ) -> None:
        self.path = directory / "products.db"
        self.queue = InMemoryQueue()
        self.ledger = OrderLedger(
            Database(f"sqlite:///{self.path}", timeout_seconds=10, connections=12)
        )
        self.ledger.setup()
        self.stopping = threading.Event()
        self.context = new_context(self.stopping, Hold(hold_seconds))
        self.metrics = self.context.metrics
        self.in_flight = InFlightTracker(self.queue, 30)
        self.pipeline = OrderPipeline(
            OrderParser(default_currency="USD", source_timezone="UTC"),
            self.ledger,
            stats,
            self.in_flight,
            self.context,
            max_attempts=3,
        )

    def process(self, *bodies: str, **message: Any) -> list[Outcome]:
        messages = [factories.message(body, **message) for body in bodies]
        with self.in_flight.track(messages), self.context.hold.messages():
            return self.pipeline.process(messages)

    def stats_of(self, user_id: str) -> tuple[int, str]:
        [stats] = self.ledger.user_stats(user_id)
        return stats.order_count, stats.total_spend


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.ledger.close()


def test_an_order_is_counted_and_stored(rig: Rig) -> None:
    assert rig.process(order_text()) == [Stored("ORD1234")]
    assert rig.stats_of("U5678") == (1, "99.99")


def test_a_second_delivery_is_stored_too_and_changes_nothing(rig: Rig) -> None:
    for _ in range(2):
        assert rig.process(order_text(), order_text()) == [Stored("ORD1234")] * 2

    assert rig.stats_of("U5678") == (1, "99.99")


def test_one_bad_order_never_harms_its_batch(rig: Rig) -> None:
    good = [order_text(order_id=f"ORD{number}") for number in range(3)]
    outcomes = rig.process(good[0], "{", good[1], order_text(order_value=1), good[2])

    assert [type(outcome) for outcome in outcomes] == [Stored, Rejected, Stored, Rejected, Stored]
    assert rig.stats_of("U5678") == (3, "299.97")


def test_other_content_under_a_known_id_is_a_conflict(rig: Rig) -> None:
    rig.process(order_text())
    [outcome] = rig.process(order_text(shipping_address="elsewhere"))

    assert isinstance(outcome, Rejected)
    assert (outcome.stage, outcome.reason) == ("ledger", "order_conflict")
    assert rig.stats_of("U5678") == (1, "99.99")


def test_rejected_messages_are_listed_with_their_order_id_if_readable(rig: Rig) -> None:
    rig.process("{", order_text(order_value=1))

    assert {(order.reason, order.order_id) for order in rig.ledger.rejected()} == {
        ("json_invalid", None),
        ("order_total", "ORD1234"),
    }


def test_changes_by_cleaning_are_counted_in_the_metrics(rig: Rig) -> None:
    rig.process(order_text(user_id=" u5678"))

    text = rig.metrics.registry.get_sample_value
    assert text("product_message_flags_total", {"flag": "id_case"}) == 1


def test_a_message_that_was_delivered_again_is_not_worked_on(rig: Rig) -> None:
    [outcome] = rig.pipeline.process([factories.message(order_text())])

    assert isinstance(outcome, Released)
    assert rig.ledger.user_stats("U5678") == []


@pytest.mark.parametrize(
    "error",
    [StoreUnavailable("redis", "gone"), ConfigurationError("REDIS_URL", "wrong type")],
)
def test_a_redis_outage_gives_messages_back_and_rejects_none(
    tmp_path: Path, error: ProductConsumerError
) -> None:
    stats = FailingStats(error)
    rig = Rig(tmp_path, stats, hold_seconds=0.1)
    outcomes = [rig.process(order_text(), receive_count=count)[0] for count in (1, 50)]

    assert [type(outcome) for outcome in outcomes] == [Released, Released]
    assert rig.ledger.rejected() == []
    assert rig.metrics.down_dependencies() == ["redis"]
    stats.error = None
    assert rig.pipeline.wait_until_ready()
    assert rig.process(order_text()) == [Stored("ORD1234")]
    assert rig.stats_of("U5678") == (1, "99.99")
    assert "user:U5678" in stats.written
    rig.ledger.close()


def test_a_short_redis_outage_costs_no_message_a_delivery(tmp_path: Path) -> None:
    stats = FailingStats(StoreUnavailable("redis", "gone"))
    rig = Rig(tmp_path, stats)
    back = threading.Timer(0.3, lambda: setattr(stats, "error", None))
    back.start()

    assert rig.process(order_text()) == [Stored("ORD1234")]
    back.join()
    rig.ledger.close()


def test_a_ledger_outage_gives_messages_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LedgerUnavailable("ledger", "gone")

    for name in ("record", "add_rejected", "probe"):
        monkeypatch.setattr(OrderLedger, name, fail)
    rig = Rig(tmp_path, hold_seconds=0.1)
    outcomes = rig.process(order_text(), "{")
    rig.ledger.close()

    assert [type(outcome) for outcome in outcomes] == [Released, Released]


def test_a_ledger_that_refuses_every_order_blames_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, hold_seconds=0.1)
    with rig.ledger.database.writing() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER refusing BEFORE INSERT ON orders BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    [outcome] = rig.process(order_text())

    assert isinstance(outcome, Released)
    assert "refuses even a test record" in outcome.reason
    rig.ledger.close()


def test_an_order_recorded_before_a_crash_is_written_by_its_next_delivery(
    tmp_path: Path, redis_url: str
) -> None:
    with_redis = closing(RedisStats(redis_url, main_currency="USD", timeout_seconds=2))
    with with_redis as stats, redis.Redis.from_url(redis_url, decode_responses=True) as reader:
        rig = Rig(tmp_path, stats)
        [order] = [rig.pipeline._parser.parse(factories.message(order_text()))]
        rig.ledger.record([order])
        assert not reader.exists("user:U5678")

        assert rig.process(order_text()) == [Stored("ORD1234")]
        assert reader.hget("user:U5678", "total_spend") == "99.99"
        assert reader.hget("global:stats", "total_orders") == "1"
        rig.ledger.close()


def test_a_redis_that_lost_everything_is_filled_before_more_is_received(
    tmp_path: Path, redis_url: str
) -> None:
    with_redis = closing(RedisStats(redis_url, main_currency="USD", timeout_seconds=2))
    with with_redis as stats, redis.Redis.from_url(redis_url, decode_responses=True) as reader:
        rig = Rig(tmp_path, stats)
        assert rig.pipeline.wait_until_ready()
        rig.process(order_text(order_id="ORD1", user_id="U1"))
        reader.flushdb()
        rig.process(order_text(order_id="ORD2", user_id="U2"))
        assert not reader.exists("user:U1")

        assert rig.pipeline.wait_until_ready()
        assert reader.hget("user:U1", "total_spend") == "99.99"
        assert reader.hget("global:stats", "total_orders") == "2"
        rig.ledger.close()


@pytest.mark.backend
def test_a_redis_that_comes_back_with_an_older_snapshot_is_filled_before_more_is_received(
    tmp_path: Path,
) -> None:
    port, where = backends.free_port(), ("--dir", str(tmp_path))
    server = backends.start_redis(port, *where)
    with (
        closing(RedisStats(server.url, main_currency="USD", timeout_seconds=2)) as stats,
        redis.Redis.from_url(server.url, decode_responses=True) as reader,
    ):
        rig = Rig(tmp_path, stats)
        rig.process(order_text(order_id="ORD1", user_id="U1"))
        assert rig.pipeline.wait_until_ready()
        reader.save()
        rig.process(order_text(order_id="ORD2", user_id="U1"))
        server.stop()
        with backends.start_redis(port, *where):
            assert reader.hget("user:U1", "order_count") == "1"

            assert rig.pipeline.wait_until_ready()
            assert reader.hget("user:U1", "order_count") == "2"
        rig.ledger.close()


def test_a_redis_that_loses_its_data_while_it_is_filled_is_filled_again(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_redis = closing(RedisStats(redis_url, main_currency="USD", timeout_seconds=2))
    with with_redis as stats, redis.Redis.from_url(redis_url, decode_responses=True) as reader:
        rig = Rig(tmp_path, stats)
        rig.process(order_text(order_id="ORD1", user_id="U1"))
        reader.flushdb()

        def fill_and_lose(*arguments: Any) -> int:
            written = rebuild_stats(*arguments)
            reader.flushdb()
            return written

        with monkeypatch.context() as losing:
            losing.setattr("product_consumer.orders.redis.writer.rebuild_stats", fill_and_lose)
            assert rig.pipeline.wait_until_ready()
        assert not reader.exists("user:U1")

        assert rig.pipeline.wait_until_ready()
        assert reader.hget("user:U1", "total_spend") == "99.99"
        rig.ledger.close()


def test_two_workers_with_duplicates_end_with_the_same_numbers_everywhere(
    tmp_path: Path, redis_url: str
) -> None:
    bodies = [
        order_text(order_id=f"ORD{number}", user_id=f"U{number % 5}") for number in range(60)
    ] * 2
    random.Random(4).shuffle(bodies)
    with closing(RedisStats(redis_url, main_currency="USD", timeout_seconds=5)) as stats:
        benches = [Rig(tmp_path, stats), Rig(tmp_path, stats)]
        with ThreadPoolExecutor(8) as pool:
            batches = [bodies[start : start + 6] for start in range(0, len(bodies), 6)]
            workers = itertools.cycle(benches)
            done = list(pool.map(lambda rig, batch: rig.process(*batch), workers, batches))
    for rig in benches:
        rig.ledger.close()

    assert {type(outcome) for outcomes in done for outcome in outcomes} == {Stored}
    with redis.Redis.from_url(redis_url, decode_responses=True) as reader:
        totals = [reader.hmget(f"user:U{n}", "order_count", "total_spend") for n in range(5)]
        assert totals == [["12", "1199.88"]] * 5
        assert reader.hget("global:stats", "total_revenue") == "5999.40"
