"""The connections to Redis, a Redis Cluster, or the primary that Sentinels name. Thread-safe.

A server that answers and refuses may have been demoted, and an open connection stays with it for
ever. So after any outage the connections are given up, and the next call looks the name up anew.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from product_consumer.errors import ConfigurationError, ProductConsumerError, StoreUnavailable
from product_consumer.orders.redis.address import SENTINEL_FORM, read_address
from product_consumer.orders.redis.errors import DEPENDENCY, SETTING, translate
from product_consumer.orders.redis.protocol import protocol_problem
from product_consumer.orders.redis.sentinel import (
    close_sentinels,
    is_without_primary,
    open_service,
    why_no_primary,
)

Client = redis.Redis | RedisCluster

_SCARCE = ("max number of clients", "Too many connections")
"""Words of a server, and of our own pool, that have no connection left."""


class RedisClient:
    """One client at a time for all threads; connects at the first use.

    Raises ``ConfigurationError`` for a URL that cannot work.
    """

    def __init__(self, url: str, *, timeout_seconds: float, connections: int) -> None:
        self._options: dict[str, Any] = {
            "decode_responses": True,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            "max_connections": connections,
            # The other protocol begins with HELLO, which older servers and proxies do not know.
            "protocol": 2,
            # The breaker retries; one reconnect covers a connection that Redis closed while idle.
            "retry": Retry(NoBackoff(), 1),
        }
        self._address = read_address(url)
        self._check_options()
        self._lock = threading.Lock()
        self._client: Client | None = None
        self.outages = 0
        """How many calls have failed so far."""
        self._must_be_cluster = False
        self._is_known = False

    @contextmanager
    def connected(self) -> Iterator[Client]:
        """Return the client; the library's errors leave as ours, ``StoreUnavailable`` mostly."""
        client = None
        try:
            client = self._connected()
            yield client
        except (RedisError, RedisClusterException, OSError) as error:
            raise self.failure(client, error) from error

    @property
    def is_cluster(self) -> bool:
        """Whether the server was a cluster's when it was last connected to."""
        return isinstance(self._client, RedisCluster)

    @staticmethod
    def pipeline(client: Client) -> Any:
        """Return a pipeline without a transaction, which a cluster's cannot have."""
        if isinstance(client, RedisCluster):
            return client.pipeline()
        return client.pipeline(transaction=False)

    @staticmethod
    def add_script(client: Client, pipeline: Any, script: str, key: str, *arguments: str) -> None:
        """Add a call of a script on one key to a pipeline."""
        # Otherwise redis-py asks a node where each key is, always the same one, be it up or down.
        at = (
            {"target_nodes": client.get_node_from_key(key)}
            if isinstance(client, RedisCluster)
            else {}
        )
        # eval() exists on a cluster's pipeline but takes no arguments there.
        pipeline.execute_command("EVAL", script, 1, key, *arguments, **at)

    def failure(
        self, client: Client | None, error: Exception, about: str = ""
    ) -> ProductConsumerError:
        """Return ours for an error of the client, and leave the server.

        ``about`` says what was refused. The connections are kept where they are what is scarce.
        """
        self.outages += 1
        if isinstance(error, AskError):
            self._must_be_cluster = True
            failure: ProductConsumerError = StoreUnavailable(DEPENDENCY, f"a cluster says: {error}")
        elif isinstance(client, redis.Redis) and is_without_primary(error):
            failure = why_no_primary(client, str(self._address.service))
        else:
            failure = translate(error, about)
        is_scarce = any(words in str(error) for words in _SCARCE)
        if client is not None and not is_scarce:
            self._leave(client, error)
        return failure

    def close(self) -> None:
        """Close all connections; the next use connects again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
            close_sentinels(client)

    def _check_options(self) -> None:
        """Make a connection object of the URL's options; it does not connect."""
        try:
            pool = self._new_client().connection_pool
            pool.connection_class(**pool.connection_kwargs)
        except (RedisError, ValueError, TypeError, LookupError) as error:
            raise ConfigurationError(SETTING, f"an option in it is wrong: {error}") from error

    def _new_client(self) -> "redis.Redis":
        if self._address.service is not None:
            return open_service(self._address, self._options)
        return redis.Redis.from_url(self._address.url, **self._options)

    def _connected(self) -> Client:
        client = self._client
        if client is not None:
            return client
        # Not under the lock: while Redis is silent, each thread waits for its own timeout only.
        new = self._open()
        with self._lock:
            client = self._client = self._client or new
        if client is not new:
            new.close()
        return client

    def _open(self) -> Client:
        client = self._new_client()
        if self._address.service is not None:
            return client
        self._check_protocol()
        try:
            if not self._is_cluster(client):
                return client
            cluster = RedisCluster.from_url(self._address.url, **self._options)
        except BaseException:
            client.close()
            raise
        client.close()
        return cluster

    def _check_protocol(self) -> None:
        """Refuse a port that cannot be meant; until one was, since each try costs a connection."""
        if self._is_known or not self._address.hosts:
            return
        [(host, port)] = self._address.hosts
        problem = protocol_problem(
            host,
            port,
            is_tls=self._address.is_tls,
            has_certificate=self._address.has_certificate,
        )
        if problem is not None:
            raise ConfigurationError(SETTING, problem)

    def _is_cluster(self, client: "redis.Redis") -> bool:
        """Ask the server what it is; one that does not tell is a cluster's if it says so later."""
        told = _asked(client, "INFO")
        self._is_known = True
        if told.get("redis_mode") == "sentinel":
            raise ConfigurationError(SETTING, f"a Sentinel is there: write {SENTINEL_FORM}")
        if "cluster_enabled" in told:
            return bool(told["cluster_enabled"])
        return self._must_be_cluster or "cluster_state" in _asked(client, "CLUSTER INFO")

    def _leave(self, client: Client, error: Exception) -> None:
        """Close what no thread uses; the others return their connections to a pool of the past.

        A cluster's client knows the other nodes, and is kept until it finds none of them.
        """
        is_kept = isinstance(client, RedisCluster) and not isinstance(error, RedisClusterException)
        if not is_kept:
            with self._lock:
                self._client = None if self._client is client else self._client
        if isinstance(client, RedisCluster):
            client.replace_default_node()
        for pool in _pools(client):
            pool.disconnect(inuse_connections=False)


def _asked(client: "redis.Redis", command: str) -> dict[str, Any]:
    """Return what the server tells of itself: nothing where it or its user lacks the command."""
    try:
        told = client.execute_command(command)
    except ResponseError:
        return {}
    return told if isinstance(told, dict) else {}


def _pools(client: Client) -> list[Any]:
    if isinstance(client, RedisCluster):
        nodes = [node.redis_connection for node in client.get_nodes()]
        return [node.connection_pool for node in nodes if node is not None]
    return [client.connection_pool]
