"""Shows the ledger's totals in Redis, for dashboards. The only file that imports redis.

Hash ``user:<user_id>``: ``order_count`` and ``total_spend``; hash ``global:stats``:
``total_orders`` and ``total_revenue``. These hold the main currency (``DEFAULT_CURRENCY``); every
other currency has fields of its own, ``total_spend:EUR`` and so on, since amounts of two currencies
are never added up. Money is a decimal string with the currency's own number of decimals.

Only absolute values are written, each hash by one script that refuses an older ``revision``. So a
write may be repeated, delayed or overtaken without harm, nothing has to be remembered here, and a
Redis that lost everything is rebuilt from the ledger. Adding in Redis would count a redelivered
order twice, and HINCRBYFLOAT drifts. One key per script also works on a Redis Cluster.
"""

import logging
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from product_consumer.errors import ConfigurationError, ProductConsumerError, StoreUnavailable
from product_consumer.money import money_text
from product_consumer.orders.models import GlobalStats, UserStats
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

GLOBAL_KEY = "global:stats"
USER_PREFIX = "user:"
REVISION = "revision"
FILL_KEY = "order-stats"
"""A hash with the field ``filled`` as long as Redis holds all that was shown, and with one field
for everyone who is filling it: a Redis that lost its data lost these too. The value is the run of
the server that wrote it: after a restart or a failover Redis may hold an older snapshot of it all.
"""

_KEYS_PER_CALL = 200
# The type is looked at before anything is written: a script that fails half-way is not undone.
# HSET is then the one write that can change what is shown.
_SHOW = """
local held_type = redis.call('TYPE', KEYS[1])['ok']
if held_type ~= 'none' and held_type ~= 'hash' then
  return redis.error_reply('WRONGTYPE ' .. held_type)
end
local held = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0') or 0
if ARGV[2] == '0' and held > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], unpack(ARGV, 3))
if ARGV[2] == '1' then
  local shown = {revision = true}
  for position = 3, #ARGV, 2 do shown[ARGV[position]] = true end
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not shown[name] then redis.call('HDEL', KEYS[1], name) end
  end
end
return 1
"""
# In the script, because on a cluster it must be the run of the server that holds the key. A server
# that does not tell has one run only, and just an empty one is noticed.
_RUN = """
local server = redis.pcall('INFO', 'server')
local run = type(server) == 'string' and string.match(server, 'run_id:(%w+)') or ''
"""
_IS_FILLED = f"{_RUN} return redis.call('HGET', KEYS[1], 'filled') == run and 1 or 0"
_BEGIN_FILLING = f"{_RUN} return redis.call('HSET', KEYS[1], ARGV[1], run)"
# A filler whose own field is gone, or of another run, filled a Redis that has lost data since.
_MARK_FILLED = f"""{_RUN}
if redis.call('HGET', KEYS[1], ARGV[1]) == run then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'filled', run)
end
return redis.call('HGET', KEYS[1], 'filled') == run and 1 or 0
"""


@dataclass(frozen=True, slots=True)
class StatsHash:
    """What a key must hold: its fields without ``revision``, and the ledger's revision of them."""

    key: str
    revision: int
    fields: Mapping[str, str]


def open_redis_stats(settings: Settings) -> "RedisStats | None":
    """Return the Redis that the settings name, or None; connects to nothing yet."""
    if settings.redis_url is None:
        return None
    return RedisStats(
        settings.redis_url.get_secret_value(),
        main_currency=settings.default_currency,
        timeout_seconds=settings.store_timeout_seconds,
        connections=settings.threads + 2,
    )


class RedisStats:
    """Thread-safe. Every method but ``close`` may raise ``StoreUnavailable("redis")`` while Redis
    is down or busy, and ``ConfigurationError("REDIS_URL")`` where a person has to mend something: a
    refused password, or a key that another program gave another type.
    """

    def __init__(
        self, url: str, *, main_currency: str, timeout_seconds: float, connections: int = 12
    ) -> None:
        self._url = url
        self._main_currency = main_currency
        self._options: dict[str, Any] = {
            "decode_responses": True,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            "max_connections": connections,
            # The breaker retries; one reconnect covers a connection that Redis closed while idle.
            "retry": Retry(NoBackoff(), 1),
        }
        try:
            self._client: redis.Redis | RedisCluster = redis.Redis.from_url(url, **self._options)
        except ValueError as error:
            raise ConfigurationError("REDIS_URL", "needs redis://, rediss:// or unix://") from error
        self._is_cluster: bool | None = None
        self._connecting = threading.Lock()
        self._mistyped: set[str] = set()

    def ping(self) -> None:
        """Raise while Redis is down, and while a key that refused a write has another type."""
        client = self._connected()
        with _translated_errors():
            client.ping()
            for key in sorted(self._mistyped):
                found = cast(str, client.type(key))
                if found not in ("hash", "none"):
                    raise _mistyped(key, found)
                self._mistyped.discard(key)

    def describe(self) -> str:
        """Return for people what was reached; raises as ``ping`` does."""
        self.ping()
        return "Redis Cluster" if self._is_cluster else "Redis"

    def is_filled(self) -> bool:
        """False for a Redis that is new, was emptied, or has been restarted or replaced since."""
        client = self._connected()
        with _translated_errors():
            return bool(client.eval(_IS_FILLED, 1, FILL_KEY))

    def start_filling(self) -> str:
        """Note who fills Redis from now on; ``finish_filling`` needs what this returns."""
        client, filler = self._connected(), uuid.uuid4().hex
        with _translated_errors():
            client.eval(_BEGIN_FILLING, 1, FILL_KEY, filler)
        return filler

    def finish_filling(self, filler: str) -> bool:
        """Note that every total has been shown; False when Redis may have lost data meanwhile."""
        client = self._connected()
        with _translated_errors():
            return bool(client.eval(_MARK_FILLED, 1, FILL_KEY, filler))

    def write(self, hashes: Sequence[StatsHash], *, force: bool = False) -> int:
        """Write what is not older than what is there; return how many hashes were written.

        ``force``: write even over a greater revision, as after the ledger came back from a backup.
        When one key fails the others are still written, and the first failure is raised.
        """
        client = self._connected()
        written = 0
        failure: Exception | None = None
        for start in range(0, len(hashes), _KEYS_PER_CALL):
            group = hashes[start : start + _KEYS_PER_CALL]
            for shown, reply in zip(group, self._evaluate(client, group, force), strict=True):
                if isinstance(reply, Exception):
                    failure = failure or self._failure(shown.key, reply)
                else:
                    written += int(reply)
        if failure is not None:
            raise failure
        return written

    def read(self, keys: Sequence[str]) -> list[dict[str, str] | None]:
        """Return the fields of each key; None for one that is missing or no hash."""
        client = self._connected()
        found: list[dict[str, str] | None] = []
        with _translated_errors():
            pipeline = client.pipeline(**({} if self._is_cluster else {"transaction": False}))
            for key in keys:
                pipeline.hgetall(key)
            for reply in pipeline.execute(raise_on_error=False):
                if isinstance(reply, Exception) and not _is_wrong_type(reply):
                    raise reply
                found.append(reply if isinstance(reply, dict) and reply else None)
        return found

    def user_keys(self) -> Iterator[str]:
        """Yield the keys named ``user:...`` that carry our revision; some may come twice."""
        client = self._connected()
        with _translated_errors():
            for key in client.scan_iter(match=f"{USER_PREFIX}*", count=1000, _type="HASH"):
                if client.hexists(key, REVISION):
                    yield str(key)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys."""
        client = self._connected()
        with _translated_errors():
            for key in keys:
                client.delete(key)

    def of_user(self, stats: Sequence[UserStats]) -> StatsHash:
        """What ``user:<id>`` must hold for one user's totals in all currencies (at least one)."""
        rows = [(each.currency, each.order_count, each.spend_minor) for each in stats]
        fields = self._fields("order_count", "total_spend", rows)
        key = f"{USER_PREFIX}{stats[0].user_id}"
        return StatsHash(key, sum(each.revision for each in stats), fields)

    def of_everyone(self, stats: Sequence[GlobalStats]) -> StatsHash:
        """What ``global:stats`` must hold."""
        rows = [(each.currency, each.total_orders, each.revenue_minor) for each in stats]
        fields = self._fields("total_orders", "total_revenue", rows)
        return StatsHash(GLOBAL_KEY, sum(each.revision for each in stats), fields)

    @staticmethod
    def user_id_of(key: str) -> str | None:
        """Return whose hash this is; None for any other key."""
        return key.removeprefix(USER_PREFIX) if key.startswith(USER_PREFIX) else None

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _fields(
        self, count_name: str, money_name: str, rows: Iterable[tuple[str, int, int]]
    ) -> dict[str, str]:
        fields: dict[str, str] = {}
        if self._main_currency:
            # Readers of the main fields find them even where all orders are in other currencies.
            fields = {count_name: "0", money_name: money_text(0, self._main_currency)}
        for currency, count, minor in rows:
            suffix = "" if currency == self._main_currency else f":{currency}"
            fields[f"{count_name}{suffix}"] = str(count)
            fields[f"{money_name}{suffix}"] = money_text(minor, currency)
        return fields

    def _evaluate(
        self, client: "redis.Redis | RedisCluster", group: Sequence[StatsHash], force: bool
    ) -> list[Any]:
        with _translated_errors():
            pipeline = client.pipeline(**({} if self._is_cluster else {"transaction": False}))
            for shown in group:
                flat = [part for pair in shown.fields.items() for part in pair]
                # eval() exists on a cluster's pipeline but takes no arguments there.
                pipeline.execute_command(
                    "EVAL", _SHOW, 1, shown.key, str(shown.revision), str(int(force)), *flat
                )
            return list(pipeline.execute(raise_on_error=False))

    def _failure(self, key: str, error: Exception) -> ProductConsumerError:
        if _is_wrong_type(error):
            self._mistyped.add(key)
            return _mistyped(key, str(error).rpartition(" ")[2])
        return _translate(error)

    def _connected(self) -> "redis.Redis | RedisCluster":
        """The client, which is another class on a cluster; found out at the first call."""
        with self._connecting:
            if self._is_cluster is None:
                with _translated_errors():
                    server = self._client.info("cluster")
                    if server.get("cluster_enabled"):
                        cluster = RedisCluster.from_url(self._url, **self._options)
                        self._client.close()
                        self._client = cluster
                self._is_cluster = isinstance(self._client, RedisCluster)
            return self._client


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise _translate(error) from error


def _translate(error: Exception) -> ProductConsumerError:
    detail = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    refused = isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError)
    if refused or detail.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        return ConfigurationError("REDIS_URL", f"refused: {detail}")
    if isinstance(error, ResponseError) and "invalid DB index" in detail:
        return ConfigurationError("REDIS_URL", detail)
    return StoreUnavailable("redis", detail)


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def _mistyped(key: str, found: str) -> ConfigurationError:
    problem = f"key {key!r} there is a {found}, not a hash: rename or delete it"
    return ConfigurationError("REDIS_URL", problem)
