"""The connections to the primary that Sentinels name; after a failover they name another."""

from collections.abc import Mapping
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from product_consumer.errors import ConfigurationError, ProductConsumerError, StoreUnavailable
from product_consumer.orders.redis.address import RedisAddress
from product_consumer.orders.redis.errors import DEPENDENCY, SETTING, translate

_MAX_SECONDS = 2.0
"""Bound on a call to a Sentinel."""


def open_service(address: RedisAddress, options: Mapping[str, Any]) -> "redis.Redis":
    """Return a client of the service's primary; connects to nothing yet."""
    login = {**options, **parse_url(address.url)}
    for named_by_sentinels in ("host", "port", "connection_class"):
        login.pop(named_by_sentinels, None)
    for_sentinels = {
        name: value
        for name, value in login.items()
        if name.startswith(("socket_", "ssl_")) or name in ("protocol", "decode_responses")
    }
    # One after the other is asked, all of them again at each retry.
    for name in ("socket_timeout", "socket_connect_timeout"):
        for_sentinels[name] = min(for_sentinels[name], _MAX_SECONDS)
    for_sentinels["retry"] = Retry(NoBackoff(), 0)
    is_tls = {"ssl": True} if address.is_tls else {}
    sentinel = Sentinel(
        address.hosts, sentinel_kwargs={**for_sentinels, **dict(address.sentinel_login), **is_tls}
    )
    client: redis.Redis = sentinel.master_for(str(address.service), **login, **is_tls)
    return client


def close_sentinels(client: Any) -> None:
    """Close the connections to the Sentinels of a client that is closed."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    if manager is not None:
        for sentinel in manager.sentinels:
            sentinel.close()


def why_no_primary(client: Any, service: str) -> ProductConsumerError:
    """Return the error for a service of which no Sentinel names a primary.

    redis-py tells a misspelt service, Sentinels that are down and a failover by the same words.
    """
    refusal: ProductConsumerError | None = None
    known: set[str] = set()
    for sentinel in client.connection_pool.sentinel_manager.sentinels:
        try:
            known |= set(sentinel.sentinel_masters())
        except RedisError as error:
            failure = translate(error, "a Sentinel")
            refusal = failure if isinstance(failure, ConfigurationError) else refusal
    if known and service not in known:
        names = ", ".join(sorted(known))
        return ConfigurationError(SETTING, f"the Sentinels do not know its service, only {names}")
    problem = f"no Sentinel names a primary of {service!r}"
    return refusal if refusal and not known else StoreUnavailable(DEPENDENCY, problem)


def is_without_primary(error: Exception) -> bool:
    """Return whether no Sentinel has named a primary."""
    return isinstance(error, MasterNotFoundError)
