"""The order statistics in a real Redis: absolute values, never older ones, never half a hash."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from product_consumer.database.connection import Database
from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.models import GlobalStats, UserStats
from product_consumer.orders.redis.rebuild import rebuild_stats, verify_stats
from product_consumer.orders.redis.stats import RedisStats
from tests.acceptance.world import wait_until
from tests.support import backends
from tests.support.order_factories import order

pytestmark = pytest.mark.backend


@pytest.fixture
def stats(redis_url: str) -> Iterator[RedisStats]:
    with closing(open_stats(redis_url)) as opened:
        yield opened


@pytest.fixture
def reader(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[OrderLedger]:
    database = Database(f"sqlite:///{tmp_path / 'products.db'}", timeout_seconds=10, connections=4)
    with closing(OrderLedger(database)) as opened:
        opened.setup()
        yield opened


def open_stats(url: str, main_currency: str = "USD") -> RedisStats:
    return RedisStats(url, main_currency=main_currency, timeout_seconds=2)


def user(count: int, revision: int = 1, user_id: str = "U5678", currency: str = "USD") -> UserStats:
    return UserStats(user_id, currency, count, 9999 * count, revision)


def ignore_progress(_done: int, _total: int) -> None:
    return None


def test_dashboards_read_the_fields_they_know(stats: RedisStats, reader: Any) -> None:
    stats.write([stats.of_user([user(2)]), stats.of_everyone([GlobalStats("USD", 3, 29997, 1)])])

    assert reader.hmget("user:U5678", "order_count", "total_spend") == ["2", "199.98"]
    assert reader.hmget("global:stats", "total_orders", "total_revenue") == ["3", "299.97"]


def test_other_currencies_have_fields_of_their_own(stats: RedisStats, reader: Any) -> None:
    stats.write([stats.of_user([user(1, currency="EUR")])])

    assert reader.hgetall("user:U5678") == {
        "order_count": "0",
        "total_spend": "0.00",
        "order_count:EUR": "1",
        "total_spend:EUR": "99.99",
        "revision": "1",
    }


def test_a_newer_revision_replaces_and_an_older_one_is_refused(
    stats: RedisStats, reader: Any
) -> None:
    assert stats.write([stats.of_user([user(3, revision=3)])]) == 1
    assert stats.write([stats.of_user([user(2, revision=2)])]) == 0
    assert stats.write([stats.of_user([user(4, revision=4)])]) == 1

    assert reader.hget("user:U5678", "order_count") == "4"


def test_the_same_revision_may_be_written_again(stats: RedisStats, reader: Any) -> None:
    for _ in range(3):
        stats.write([stats.of_user([user(2)])])

    assert reader.hget("user:U5678", "total_spend") == "199.98"


def test_a_key_without_our_revision_is_taken_over(stats: RedisStats, reader: Any) -> None:
    reader.hset("user:U5678", mapping={"order_count": 7, "total_spend": "1.5", "name": "An"})
    stats.write([stats.of_user([user(2)])])

    assert reader.hmget("user:U5678", "order_count", "name") == ["2", "An"]


def test_writers_in_any_order_end_with_the_newest(stats: RedisStats, reader: Any) -> None:
    totals = [user(number, revision=number) for number in range(1, 101)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda total: stats.write([stats.of_user([total])]), totals[::-1] + totals))

    assert reader.hget("user:U5678", "order_count") == "100"


def test_a_key_of_another_type_is_a_configuration_error_and_stays_as_it_is(
    stats: RedisStats, reader: Any
) -> None:
    reader.set("user:U5678", "a string")
    others = [stats.of_user([user(1, user_id="U1")]), stats.of_user([user(1, user_id="U2")])]

    with pytest.raises(ConfigurationError, match="user:U5678") as refused:
        stats.write([others[0], stats.of_user([user(2)]), others[1]])

    assert refused.value.setting == "REDIS_URL"
    assert reader.get("user:U5678") == "a string"
    assert reader.hget("user:U1", "order_count") == reader.hget("user:U2", "order_count") == "1"


def test_the_probe_fails_until_the_wrong_type_is_fixed(stats: RedisStats, reader: Any) -> None:
    reader.lpush("user:U5678", "a list")
    with pytest.raises(ConfigurationError):
        stats.write([stats.of_user([user(2)])])

    for ask in (stats.probe, stats.describe):
        with pytest.raises(ConfigurationError, match="list"):
            ask()
    reader.delete("user:U5678")
    stats.probe()
    assert stats.describe() == "Redis"


def test_a_refused_password_is_a_configuration_error() -> None:
    with backends.start_redis(None, "--requirepass", "right") as server:
        for url in (server.url, server.url.replace("://", "://:a-guess@")):
            with (
                closing(open_stats(url)) as stats,
                pytest.raises(ConfigurationError, match="REDIS_URL") as refused,
            ):
                stats.probe()
            assert "a-guess" not in str(refused.value)


def test_an_address_that_is_no_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        open_stats("localhost:6379")


def test_a_redis_that_is_gone_is_unavailable_and_comes_back_empty_but_usable() -> None:
    port = backends.free_port()
    server = backends.start_redis(port)
    stats = open_stats(server.url)
    written = [stats.of_user([user(2)])]
    stats.write(written)
    server.stop()

    with pytest.raises(StoreUnavailable, match="redis"):
        stats.write(written)
    for ask in (stats.probe, stats.describe):
        with pytest.raises(StoreUnavailable):
            ask()
    with backends.start_redis(port):
        assert stats.write(written) == 1
        stats.close()


def test_a_redis_that_does_not_answer_is_unavailable_in_bounded_time() -> None:
    with backends.start_redis() as server, closing(open_stats(server.url)) as stats:
        stats.probe()
        server.pause()
        with pytest.raises(StoreUnavailable):
            stats.write([stats.of_user([user(2)])])
        server.resume()


def test_a_redis_without_memory_is_unavailable_and_holds_whole_hashes() -> None:
    with backends.start_redis(None, "--maxmemory", "1mb") as server:
        with closing(open_stats(server.url)) as stats, pytest.raises(StoreUnavailable):
            for number in range(20_000):
                stats.write([stats.of_user([user(1, user_id=f"U{number}")])])
        with redis.Redis.from_url(server.url) as reader:
            assert {reader.hlen(key) for key in reader.scan_iter()} <= {3}


def cluster_port() -> int:
    """A free port for a node; Redis wants the port that is greater by 10,000 for the cluster."""
    while True:
        port = backends.free_port()
        if port <= 55_535:
            return port


def test_a_redis_cluster_works_the_same() -> None:
    with backends.start_redis(cluster_port(), "--cluster-enabled", "yes") as server:
        with redis.Redis.from_url(server.url) as node:
            node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: is_ready(node), 10)
        with closing(open_stats(server.url)) as stats:
            assert stats.describe() == "Redis Cluster"
            written = [stats.of_user([user(1, user_id=f"U{number}")]) for number in range(300)]
            assert stats.write(written) == 300
            held = stats.read([hash_.key for hash_ in written])
            assert held == [{**hash_.fields, "revision": "1"} for hash_ in written]
            assert set(stats.user_keys()) == {hash_.key for hash_ in written}
            stats.delete([hash_.key for hash_ in written])
            assert list(stats.user_keys()) == []
            assert stats.finish_filling(stats.start_filling())
            assert stats.is_filled()


def is_ready(node: Any) -> bool:
    return str(node.cluster("info")["cluster_state"]) == "ok"


def test_a_wiped_redis_is_rebuilt_and_verified(
    ledger: OrderLedger, stats: RedisStats, reader: Any
) -> None:
    ledger.record([order(user_id=f"U{number % 30}", value_minor=number) for number in range(100)])

    assert rebuild_stats(ledger, stats, ignore_progress) == 31
    assert verify_stats(ledger, stats, ignore_progress).is_right
    assert reader.hget("global:stats", "total_revenue") == "49.50"


def test_verification_finds_different_and_unknown_keys(
    ledger: OrderLedger, stats: RedisStats, reader: Any
) -> None:
    ledger.record([order(user_id=f"U{number}") for number in range(5)])
    rebuild_stats(ledger, stats, ignore_progress)
    reader.hset("user:U1", "total_spend", "0.01")
    reader.delete("user:U2")
    reader.hset("user:stranger", mapping={"order_count": "1", "revision": "1"})
    reader.hset("user:of-another-program", "name", "An")
    result = verify_stats(ledger, stats, ignore_progress)

    assert (result.compared, result.differing, result.unknown) == (6, 2, 1)
    assert result.examples == ["user:U1", "user:U2", "user:stranger"]


def test_only_a_forced_rebuild_overwrites_a_greater_revision(
    ledger: OrderLedger, stats: RedisStats, reader: Any
) -> None:
    ledger.record([order()])
    reader.hset("user:U1", mapping={"order_count": "9", "order_count:EUR": "3", "revision": "9"})
    reader.hset("user:stranger", mapping={"order_count": "1", "revision": "1"})

    rebuild_stats(ledger, stats, ignore_progress)
    assert reader.hget("user:U1", "order_count") == "9"
    rebuild_stats(ledger, stats, ignore_progress, force=True)
    assert verify_stats(ledger, stats, ignore_progress).is_right
    assert reader.hget("user:U1", "order_count") == "1"


def test_a_redis_is_filled_once_everything_was_shown(stats: RedisStats) -> None:
    assert not stats.is_filled()
    filler = stats.start_filling()
    assert not stats.is_filled()

    assert stats.finish_filling(filler)
    assert stats.is_filled()


def test_a_redis_that_loses_its_data_while_it_is_filled_is_not_filled(
    stats: RedisStats, reader: Any
) -> None:
    filler = stats.start_filling()
    reader.flushdb()

    assert not stats.finish_filling(filler)
    assert not stats.is_filled()


def test_a_redis_that_comes_back_with_an_older_snapshot_is_not_filled(tmp_path: Path) -> None:
    port, where = backends.free_port(), ("--dir", str(tmp_path))
    server = backends.start_redis(port, *where)
    with closing(open_stats(server.url)) as stats:
        written = stats.of_user([user(2)])
        stats.write([written])
        stats.finish_filling(stats.start_filling())
        unfinished = stats.start_filling()
        with redis.Redis.from_url(server.url) as reader:
            reader.save()
        server.stop()
        with backends.start_redis(port, *where):
            assert stats.read([written.key]) == [{**written.fields, "revision": "1"}]

            assert not stats.is_filled()
            assert not stats.finish_filling(unfinished)
            assert stats.finish_filling(stats.start_filling())
            assert stats.is_filled()


def test_one_of_several_fillers_is_enough(stats: RedisStats, redis_url: str) -> None:
    with closing(open_stats(redis_url)) as other:
        fillers = stats.start_filling(), other.start_filling()

        assert stats.finish_filling(fillers[0])
        assert other.finish_filling(fillers[1])
        assert stats.is_filled()
