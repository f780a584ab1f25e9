"""The ledger's totals in Redis, for dashboards. The only file that imports redis.

Hash ``user:<user_id>``: ``order_count`` and ``total_spend``; hash ``global:stats``:
``total_orders`` and ``total_revenue``. These hold the main currency (``DEFAULT_CURRENCY``); every
other currency has fields of its own, ``total_spend:EUR`` and so on: amounts of two currencies are
never added up. Money is a decimal string with the currency's own number of decimals.

Only absolute values are written, each hash by one script that refuses an older ``revision``. So a
write may be repeated, delayed or overtaken without harm. Nothing is remembered here, and a Redis
that lost everything is rebuilt from the ledger. Adding in Redis would count a redelivered order
twice, and HINCRBYFLOAT drifts.
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
from product_consumer.orders import redis_scripts
from product_consumer.orders.models import GlobalStats, UserStats
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

GLOBAL_KEY = "global:stats"
USER_PREFIX = "user:"
REVISION = "revision"
FILL_KEY = "order-stats"
"""A hash with the field ``filled`` while Redis holds every total, and a field for each filler. A
Redis that lost its data lost these fields too. Their value is the run of the server that wrote
them: after a restart or a failover Redis may hold an older snapshot of everything.
"""

_KEYS_PER_CALL = 200


@dataclass(frozen=True, slots=True)
class StatsHash:
    """The wanted content of one key."""

    key: str
    revision: int
    """The ledger's revision of these totals."""
    fields: Mapping[str, str]
    """All fields but ``revision``."""


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
    """The totals of orders in one Redis, or Redis Cluster. Thread-safe.

    Every method but ``close`` may raise ``StoreUnavailable("redis")`` while Redis is down or busy.
    It raises ``ConfigurationError("REDIS_URL")`` where a person has to fix something: a refused
    password, or a key that another program gave another type.
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
                type_ = cast(str, client.type(key))
                if type_ not in ("hash", "none"):
                    raise _mistyped(key, type_)
                self._mistyped.discard(key)

    def describe(self) -> str:
        """Return, for people, which kind of server answers; raises as ``ping`` does."""
        self.ping()
        return "Redis Cluster" if self._is_cluster else "Redis"

    def is_filled(self) -> bool:
        """False for a Redis that is new, was emptied, or has been restarted or replaced since."""
        client = self._connected()
        with _translated_errors():
            return bool(client.eval(redis_scripts.IS_FILLED, 1, FILL_KEY))

    def start_filling(self) -> str:
        """Record that Redis is being filled; return the filler's name for ``finish_filling``."""
        client, filler = self._connected(), uuid.uuid4().hex
        with _translated_errors():
            client.eval(redis_scripts.START_FILLING, 1, FILL_KEY, filler)
        return filler

    def finish_filling(self, filler: str) -> bool:
        """Record that every total is written; False when Redis may have lost data meanwhile."""
        client = self._connected()
        with _translated_errors():
            return bool(client.eval(redis_scripts.FINISH_FILLING, 1, FILL_KEY, filler))

    def write(self, hashes: Sequence[StatsHash], *, force: bool = False) -> int:
        """Write each hash unless Redis has a newer one; return how many hashes were written.

        ``force``: write even over a greater revision, as after the ledger came back from a backup.
        When one key fails the others are still written, and the first failure is raised.
        """
        client = self._connected()
        written = 0
        failure: Exception | None = None
        for start in range(0, len(hashes), _KEYS_PER_CALL):
            group = hashes[start : start + _KEYS_PER_CALL]
            for hash_, reply in zip(group, self._evaluate(client, group, force), strict=True):
                if isinstance(reply, Exception):
                    failure = failure or self._failure(hash_.key, reply)
                else:
                    written += int(reply)
        if failure is not None:
            raise failure
        return written

    def read(self, keys: Sequence[str]) -> list[dict[str, str] | None]:
        """Return the fields of each key; None for a key that is missing or no hash."""
        client = self._connected()
        hashes: list[dict[str, str] | None] = []
        with _translated_errors():
            pipeline = client.pipeline(**({} if self._is_cluster else {"transaction": False}))
            for key in keys:
                pipeline.hgetall(key)
            for reply in pipeline.execute(raise_on_error=False):
                if isinstance(reply, Exception) and not _is_wrong_type(reply):
                    raise reply
                hashes.append(reply if isinstance(reply, dict) and reply else None)
        return hashes

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
        """Return the hash ``user:<id>`` for one user's totals in all currencies (at least one)."""
        rows = [(total.currency, total.order_count, total.spend_minor) for total in stats]
        fields = self._fields("order_count", "total_spend", rows)
        key = f"{USER_PREFIX}{stats[0].user_id}"
        return StatsHash(key, sum(total.revision for total in stats), fields)

    def of_everyone(self, stats: Sequence[GlobalStats]) -> StatsHash:
        """Return the hash ``global:stats`` for the totals of all users in all currencies."""
        rows = [(total.currency, total.total_orders, total.revenue_minor) for total in stats]
        fields = self._fields("total_orders", "total_revenue", rows)
        return StatsHash(GLOBAL_KEY, sum(total.revision for total in stats), fields)

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
            for hash_ in group:
                arguments = [str(hash_.revision), str(int(force))]
                arguments += [text for field in hash_.fields.items() for text in field]
                # eval() exists on a cluster's pipeline but takes no arguments there.
                pipeline.execute_command("EVAL", redis_scripts.WRITE, 1, hash_.key, *arguments)
            return list(pipeline.execute(raise_on_error=False))

    def _failure(self, key: str, error: Exception) -> ProductConsumerError:
        if _is_wrong_type(error):
            self._mistyped.add(key)
            return _mistyped(key, str(error).rpartition(" ")[2])
        return _translate(error)

    def _connected(self) -> "redis.Redis | RedisCluster":
        """Return the client; the first call asks the server whether it must be a cluster's."""
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


def _mistyped(key: str, type_: str) -> ConfigurationError:
    problem = f"key {key!r} there is a {type_}, not a hash: rename or delete it"
    return ConfigurationError("REDIS_URL", problem)
