"""What a real Redis refuses: the probe notices all of it, and nobody notices the probe."""

import contextlib
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.orders.components import OrderComponents
from product_consumer.orders.models import GlobalStats, UserStats
from product_consumer.orders.redis.stats import RedisStats
from product_consumer.settings import Settings
from tests.support import backends
from tests.support.certificates import make_certificate
from tests.support.documentation import DOCS, blocks, codes, table

pytestmark = pytest.mark.backend

USER = UserStats("U1", "USD", 2, 9999, 1)
EVERYONE = GlobalStats("USD", 3, 29997, 1)
KEYS = ("~user:*", "~global:stats", "~order-stats")
COMMANDS = ("+eval", "+type", "+hget", "+hset", "+hkeys", "+hdel")


@pytest.fixture
def admin(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client
        client.acl_deluser("orders")


def open_stats(url: str) -> RedisStats:
    return RedisStats(url, main_currency="USD", timeout_seconds=2)


def stats_as_user(admin: Any, url: str, *rules: str) -> RedisStats:
    admin.execute_command("ACL", "SETUSER", "orders", "reset", "on", ">secret", *rules)
    return open_stats(url.replace("://", "://orders:secret@"))


def work(stats: RedisStats) -> None:
    """Do all that a worker does."""
    stats.probe()
    stats.write([stats.of_user([USER]), stats.of_everyone([EVERYONE])])
    stats.is_filled()
    assert stats.finish_filling(stats.start_filling())
    assert stats.is_filled()


def test_a_probe_changes_nothing_that_a_reader_sees(redis_url: str, admin: Any) -> None:
    with closing(open_stats(redis_url)) as stats:
        stats.probe()
        assert admin.dbsize() == 0
        work(stats)
        admin.expire("global:stats", 1000)
        before = {key: (admin.hgetall(key), admin.ttl(key) > 0) for key in admin.scan_iter()}
        stats.probe()

        assert before == {
            key: (admin.hgetall(key), admin.ttl(key) > 0) for key in admin.scan_iter()
        }
        assert before["global:stats"][1]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ((*KEYS, "+@all", "-@scripting"), "eval"),
        ((*KEYS, *COMMANDS, "-hset"), "HSET"),
        ((*KEYS, *COMMANDS, "-hdel"), "HDEL"),
        ((*KEYS, *COMMANDS, "-hkeys"), "HKEYS"),
        (("~global:stats", "~order-stats", *COMMANDS), "user::probe"),
        (("~user:*", "~order-stats", *COMMANDS), "global:stats"),
        (("~user:*", "~global:stats", "+@all"), "order-stats"),
        (("%R~*", "+@all"), "no permissions"),
        ((*KEYS, "-@all"), "eval"),
    ],
)
def test_a_user_who_may_not_do_all_of_the_work_is_told_what_is_refused(
    redis_url: str, admin: Any, rules: tuple[str, ...], told: str
) -> None:
    with closing(stats_as_user(admin, redis_url, *rules)) as stats:
        with pytest.raises(ConfigurationError, match="REDIS_URL") as refused:
            stats.probe()
        assert told in str(refused.value)
    assert admin.dbsize() == 0


def test_a_start_is_refused_where_the_work_would_be(redis_url: str, admin: Any) -> None:
    stats_as_user(admin, redis_url, "~user:*", "~global:stats", *COMMANDS).close()
    url = redis_url.replace("://", "://orders:secret@")
    with (
        closing(OrderComponents(Settings(redis_url=SecretStr(url)))) as components,
        pytest.raises(ConfigurationError, match="order-stats"),
    ):
        components.open_stats()


def documented_rules() -> list[str]:
    [line] = [text for text in blocks(DOCS / "orders.md", "text") if "ACL SETUSER" in text]
    return shlex.split(line)[3:]


def test_the_documented_rules_allow_all_of_the_work(redis_url: str, admin: Any) -> None:
    with closing(stats_as_user(admin, redis_url, *documented_rules())) as stats:
        work(stats)


def test_the_documented_rules_of_the_commands_allow_theirs(redis_url: str, admin: Any) -> None:
    [added] = [row[1] for row in table(DOCS / "orders.md", "for") if "verify-stats" in row[0]]
    rules = [*documented_rules(), *codes(added)[0].split()]
    with closing(stats_as_user(admin, redis_url, *rules)) as stats:
        stats.write([stats.of_user([USER])])
        assert list(stats.user_keys()) == ["user:U1"]
        assert stats.read(["user:U1"]) != [None]
        stats.delete(["user:U1"])


def test_a_key_that_refused_a_write_is_probed_until_it_takes_one(
    redis_url: str, admin: Any
) -> None:
    few = ("~user:U1", "~user::probe", "~global:stats", "~order-stats")
    with closing(stats_as_user(admin, redis_url, *few, *COMMANDS)) as stats:
        stats.probe()
        other = stats.of_user([UserStats("U2", "USD", 1, 1, 1)])
        with pytest.raises(ConfigurationError):
            stats.write([stats.of_user([USER]), other])
        with pytest.raises(ConfigurationError, match="user:U2"):
            stats.probe()
        admin.execute_command("ACL", "SETUSER", "orders", "~user:*")

        stats.probe()
        assert not admin.exists("user:U2")


def test_a_server_without_memory_refuses_the_probe_until_it_has_some() -> None:
    with backends.start_redis(None, "--maxmemory", "3mb") as server:
        with redis.Redis.from_url(server.url) as admin, contextlib.suppress(redis.ResponseError):
            for number in range(10_000):
                admin.set(f"other:{number}", "x" * 10_000)
        with closing(open_stats(server.url)) as stats:
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                stats.probe()
            with redis.Redis.from_url(server.url) as admin:
                admin.config_set("maxmemory", "0")
                stats.probe()
                assert not admin.exists("global:stats", "order-stats")


def test_a_replica_and_a_server_without_enough_replicas_refuse_the_probe(
    redis_url: str, admin: Any
) -> None:
    with closing(open_stats(redis_url)) as stats:
        stats.probe()
        try:
            admin.config_set("min-replicas-to-write", 1)
            with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
                stats.probe()
            admin.config_set("min-replicas-to-write", 0)
            admin.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreUnavailable, match="read only replica"):
                stats.probe()
        finally:
            admin.config_set("min-replicas-to-write", 0)
            admin.replicaof("NO", "ONE")
        stats.probe()


@pytest.mark.parametrize("database", ["/99", "?db=99"])
def test_a_database_that_the_server_does_not_have_is_refused(redis_url: str, database: str) -> None:
    with pytest.raises(ConfigurationError, match="out of range"):
        probe(redis_url + database)


def test_a_server_that_tells_nothing_of_itself_does_the_work() -> None:
    taken = ("INFO", "CLIENT", "CLUSTER", "HELLO", "COMMAND", "PING")
    options = [part for command in taken for part in ("--rename-command", command, "")]
    with backends.start_redis(None, *options) as server:
        with closing(open_stats(server.url)) as stats:
            work(stats)
            assert stats.describe() == "Redis"
        with closing(open_stats(server.url)) as another:
            # It cannot see whether the server was another one before.
            assert not another.is_filled()


def test_a_server_without_scripts_and_a_user_it_cannot_know_are_refused() -> None:
    options = ("--rename-command", "EVAL", "", "--rename-command", "AUTH", "")
    with backends.start_redis(None, *options) as server:
        for url in (server.url, server.url.replace("://", "://orders:secret@")):
            with closing(open_stats(url)) as stats:
                with pytest.raises(ConfigurationError, match="unknown command") as refused:
                    stats.probe()
                assert "secret" not in str(refused.value)


def test_a_server_that_takes_tls_only_is_reached_by_those_who_trust_it(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    with tls_server(tmp_path) as address:
        with pytest.raises(ConfigurationError, match="rediss://"):
            probe(f"redis://{address}")
        with pytest.raises(ConfigurationError, match="self-signed"):
            probe(f"rediss://{address}")
        with closing(open_stats(f"rediss://{address}?{authority(tmp_path)}")) as stats:
            work(stats)


def test_a_server_that_wants_a_certificate_says_so(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    own = f"ssl_certfile={tmp_path}/certificate.pem&ssl_keyfile={tmp_path}/key.pem"
    with tls_server(tmp_path, "--tls-auth-clients", "yes") as address:
        url = f"rediss://{address}?{authority(tmp_path)}"
        with pytest.raises(ConfigurationError, match="ssl_certfile"):
            probe(url)
        probe(f"{url}&{own}")


def test_an_expired_certificate_is_waited_for_since_it_may_be_renewed(tmp_path: Path) -> None:
    make_certificate(tmp_path, days=-1)
    with (
        tls_server(tmp_path) as address,
        pytest.raises(StoreUnavailable, match="expired"),
    ):
        probe(f"rediss://{address}?{authority(tmp_path)}")


def test_tls_to_a_server_without_it_is_refused_at_once(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://"):
        probe(redis_url.replace("redis://", "rediss://"))


def probe(url: str) -> None:
    with closing(open_stats(url)) as stats:
        stats.probe()


def authority(folder: Path) -> str:
    return f"ssl_ca_certs={folder}/certificate.pem"


@contextlib.contextmanager
def tls_server(folder: Path, *options: str) -> Iterator[str]:
    """Yield the address of a Redis that takes TLS only."""
    port = backends.free_port()
    certificate = f"{folder}/certificate.pem"
    files = ("--tls-cert-file", certificate, "--tls-key-file", f"{folder}/key.pem")
    tls = ("--port", "0", "--tls-port", str(port), "--tls-ca-cert-file", certificate)
    with backends.start_redis(port, *tls, *files, "--tls-auth-clients", "no", *options):
        yield f"127.0.0.1:{port}"
