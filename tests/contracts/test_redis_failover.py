"""A real failover of Redis: the demoted server is left, and the totals end as in the ledger."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from product_consumer.database.connection import Database
from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.models import UserStats
from product_consumer.orders.redis.rebuild import verify_stats
from product_consumer.orders.redis.stats import RedisStats
from product_consumer.orders.redis.writer import RedisWriter
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import new_context
from tests.acceptance import world
from tests.support import backends
from tests.support.forwarder import Forwarder
from tests.support.order_factories import order

pytestmark = pytest.mark.backend

SERVICE = "orders"


def wait_until(is_so: Callable[[], Any], seconds: float = 10) -> None:
    world.wait_until(is_so, seconds)


class Pair:
    """Two servers, the second a replica of the first."""

    def __init__(self, *urls: str) -> None:
        self.urls = urls
        self.servers: list[Any] = [redis.Redis.from_url(url, decode_responses=True) for url in urls]

    def replicate(self, source: int, target: int) -> None:
        """Make ``target`` a replica of ``source`` and wait until it has all of it."""
        address = urlsplit(self.urls[source])
        self.servers[target].replicaof(address.hostname, address.port)
        wait_until(lambda: self.servers[target].info("replication")["master_link_status"] == "up")
        self.servers[source].set("marker", target)
        wait_until(lambda: self.servers[target].get("marker") == str(target))
        self.servers[source].delete("marker")
        wait_until(lambda: not self.servers[target].exists("marker"))

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def promote(self, number: int) -> None:
        self.servers[number].replicaof("NO", "ONE")


@pytest.fixture
def pair() -> Iterator[Pair]:
    at_once = ("--repl-diskless-sync-delay", "0")
    with backends.start_redis(None, *at_once) as one, backends.start_redis(None, *at_once) as two:
        pair = Pair(one.url, two.url)
        yield pair
        pair.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[OrderLedger]:
    database = Database(f"sqlite:///{tmp_path / 'products.db'}", timeout_seconds=10, connections=4)
    with closing(OrderLedger(database)) as opened:
        opened.setup()
        yield opened


def behind(name: Forwarder) -> str:
    """The address of the server that a name leads to."""
    return f"redis://127.0.0.1:{name.port}"


def open_stats(url: str) -> RedisStats:
    return RedisStats(url, main_currency="USD", timeout_seconds=2)


def a_hash(stats: RedisStats, user_id: str = "U1") -> Any:
    return stats.of_user([UserStats(user_id, "USD", 1, 100, 1)])


def test_a_demoted_server_is_left_and_what_the_new_one_lacks_is_filled(
    pair: Pair, ledger: OrderLedger
) -> None:
    pair.replicate(0, 1)
    with (
        Forwarder(pair.urls[0]) as name,
        closing(open_stats(behind(name))) as s,
    ):
        probes = {"ledger": ledger.probe, "redis": s.probe}
        writer = RedisWriter(ledger, s, Breakers(probes, new_context()))
        ledger.record([order(order_id="ORD1", user_id="U1")])
        writer.write(["U1"])
        writer.keep_filled()
        wait_until(lambda: pair.servers[1].hget("order-stats", "filled") is not None)
        pair.promote(1)
        ledger.record([order(order_id="ORD2", user_id="U2")])
        writer.write(["U2"])
        name.lead_to(pair.urls[1])
        pair.replicate(1, 0)
        ledger.record([order(order_id="ORD3", user_id="U3")])

        writer.write(["U3"])
        assert not pair.servers[1].exists("user:U2")
        writer.keep_filled()
        assert pair.servers[1].hget("user:U2", "order_count") == "1"
        assert verify_stats(ledger, s, lambda _done, _total: None).is_right


def test_an_idle_worker_leaves_a_demoted_server_which_is_not_filled_when_it_comes_back(
    pair: Pair,
) -> None:
    pair.replicate(0, 1)
    with (
        Forwarder(pair.urls[0]) as name,
        closing(open_stats(behind(name))) as s,
    ):
        assert s.finish_filling(s.start_filling())
        wait_until(lambda: pair.servers[1].hget("order-stats", "filled") is not None)
        pair.promote(1)
        pair.replicate(1, 0)

        assert not s.is_filled()
        with pytest.raises(StoreUnavailable):
            s.start_filling()
        pair.promote(0)
        assert not s.is_filled()


def test_every_connection_to_a_demoted_server_is_left(pair: Pair) -> None:
    with (
        Forwarder(pair.urls[0]) as name,
        closing(open_stats(behind(name))) as s,
    ):
        s.write([a_hash(s)])
        with s._server.connected() as client:
            pool: Any = vars(client)["connection_pool"]
            held_by_another_thread = pool.get_connection()
            s.write([a_hash(s)])
            name.lead_to(pair.urls[1])
            pair.replicate(1, 0)
            with pytest.raises(StoreUnavailable, match="read only"):
                s.write([a_hash(s)])
            pool.release(held_by_another_thread)

        assert [s.write([a_hash(s, user)]) for user in ("U1", "U2")] == [1, 1]
        assert pair.servers[1].exists("user:U1", "user:U2") == 2


def test_a_server_that_tells_no_run_is_filled_again_after_an_outage() -> None:
    port, silent = backends.free_port(), ("--rename-command", "INFO", "")
    server = backends.start_redis(port, *silent)
    with closing(open_stats(server.url)) as stats:
        assert stats.finish_filling(stats.start_filling())
        assert stats.is_filled()
        server.stop()
        with pytest.raises(StoreUnavailable):
            stats.is_filled()
        with backends.start_redis(port, *silent) as again:
            with redis.Redis.from_url(again.url) as admin:
                admin.hset("order-stats", "filled", "")

            assert not stats.is_filled()


@pytest.mark.soak
def test_a_shard_whose_primary_is_gone_is_left_for_its_replica_and_filled_again() -> None:
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with (
        backends.start_redis(cluster_port(), *options) as one,
        backends.start_redis(cluster_port(), *options) as two,
        contextlib.ExitStack() as closing_all,
    ):
        pair = Pair(one.url, two.url)
        closing_all.callback(pair.close)
        make_shard(pair)
        stats = closing_all.enter_context(closing(open_stats(one.url)))
        assert stats.finish_filling(stats.start_filling())
        assert stats.write([a_hash(stats, f"U{number}") for number in range(50)]) == 50
        wait_until(lambda: pair.servers[1].dbsize() == 51)
        one.kill()
        with pytest.raises(StoreUnavailable):
            stats.probe()
        pair.servers[1].execute_command("CLUSTER", "FAILOVER", "TAKEOVER")

        wait_until(lambda: writes(stats, "V1"))
        assert pair.servers[1].exists("user:V1")
        assert not stats.is_filled()


def make_shard(pair: Pair) -> None:
    """Make the first server a primary with all slots, and the second its replica."""
    first, second = pair.servers
    address = urlsplit(pair.urls[1])
    first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    first.execute_command("CLUSTER", "MEET", address.hostname, address.port)
    wait_until(lambda: first.cluster("info")["cluster_state"] == "ok")
    primary = first.execute_command("CLUSTER", "MYID")
    wait_until(lambda: primary in str(second.execute_command("CLUSTER", "NODES")))
    second.execute_command("CLUSTER", "REPLICATE", primary)
    wait_until(lambda: second.info("replication").get("master_link_status") == "up")
    # The primary tells a client of its replica once it knows of it.
    wait_until(lambda: str(address.port) in str(first.execute_command("CLUSTER", "SLOTS")))


def cluster_port() -> int:
    """A free port for a node, whose port for the cluster is greater by 10,000."""
    return next(port for port in iter(backends.free_port, 0) if port <= 55_535)


@contextlib.contextmanager
def sentinel_of(url: str) -> Iterator[Any]:
    """Yield a client of a Sentinel that watches the server as ``SERVICE``."""
    address = urlsplit(url)
    with (
        backends.start_sentinel(f"{SERVICE} {address.hostname} {address.port} 1") as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        yield client


def sentinel_url(sentinel: Any, service: str = SERVICE) -> str:
    return f"redis+sentinel://{address_of(sentinel)},127.0.0.1:1/{service}/0"


def address_of(client: Any) -> str:
    options = client.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"


@pytest.mark.soak
def test_the_primary_that_sentinels_name_is_used_and_left_when_they_name_another(
    pair: Pair,
) -> None:
    pair.replicate(0, 1)
    with (
        sentinel_of(pair.urls[0]) as sentinel,
        closing(open_stats(sentinel_url(sentinel))) as stats,
    ):
        stats.probe()
        stats.write([a_hash(stats)])
        assert pair.servers[0].exists("user:U1")
        wait_until(lambda: begins_failover(sentinel), 30)
        wait_until(lambda: pair.servers[1].role()[0] == "master", 20)
        wait_until(lambda: pair.servers[0].role()[0] == "slave", 20)

        wait_until(lambda: writes(stats, "U2"))
        assert pair.servers[1].exists("user:U2")


def begins_failover(sentinel: Any) -> bool:
    """Return False until the Sentinel knows the replica well enough."""
    with contextlib.suppress(redis.ResponseError):
        return bool(sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE))
    return False


def writes(stats: RedisStats, user_id: str) -> bool:
    try:
        return stats.write([a_hash(stats, user_id)]) == 1
    except StoreUnavailable:
        return False


def test_sentinels_lead_to_their_primary_and_what_they_refuse_is_told(
    redis_url: str,
) -> None:
    with sentinel_of(redis_url) as sentinel:
        with closing(open_stats(sentinel_url(sentinel))) as stats:
            stats.probe()
            assert stats.write([a_hash(stats)]) == 1
        with (
            closing(open_stats(sentinel_url(sentinel, "order"))) as misspelt,
            pytest.raises(ConfigurationError, match="only orders"),
        ):
            misspelt.probe()
        with (
            closing(open_stats(f"redis://{address_of(sentinel)}")) as not_said,
            pytest.raises(ConfigurationError, match="redis\\+sentinel://"),
        ):
            not_said.probe()
        down = sentinel_url(sentinel)
    with (
        closing(open_stats(down)) as stats,
        pytest.raises(StoreUnavailable, match="no Sentinel names"),
    ):
        stats.probe()
    with (
        closing(open_stats(redis_url.replace("redis", "redis+sentinel", 1) + "/orders")) as server,
        pytest.raises(ConfigurationError, match="SENTINEL"),
    ):
        server.probe()
