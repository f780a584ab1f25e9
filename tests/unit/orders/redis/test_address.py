"""``REDIS_URL``: what is taken, and what is refused before anything connects."""

from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.orders.redis.address import RedisAddress, read_address
from product_consumer.orders.redis.client import RedisClient

TAKEN = [
    "redis://localhost",
    "redis://localhost:6379/0",
    "redis://localhost:6379/15/",
    " redis://localhost:6379/0\n",
    "redis://user:p%40ss%2Fw%23rd@localhost:6379/0",
    "redis://:p@ss@localhost",
    "redis://[::1]:6379/1",
    "redis://my_redis.svc.cluster.local:6380",
    "redis://localhost?db=3&socket_timeout=2&client_name=orders",
    "redis://localhost?protocol=3",
    "rediss://localhost:6380/0?ssl_cert_reqs=none",
    "unix:///run/redis.sock",
    "unix://user:password@/run/redis.sock?db=2",
    "redis+sentinel://one:26379,two/orders",
    "rediss+sentinel://user:pw@one,two:26380/orders/3?sentinel_password=x",
]
REFUSED = {
    "": "needs redis://",
    "localhost:6379": "needs redis://",
    "http://localhost:6379": "needs redis://",
    "REDIS_URL=redis://localhost": "needs redis://",
    "redis://": "host",
    "redis:///0": "host",
    "redis://:6379/0": "host",
    "redis://user:password@/0": "host",
    "redis://localhost:99999": "port",
    "redis://localhost:0": "port",
    "redis://localhost:6379x/0": "port",
    "redis://localhost:tcp://10.0.0.1:6379": "port",
    "redis://tcp://10.0.0.1:6379": "number of a database",
    "redis://[::1": "is no URL",
    "redis://${HOST}:6379": "looked up",
    "redis://a b:6379": "looked up",
    "redis://a..b:6379": "looked up",
    f"redis://{'a' * 70}:6379": "looked up",
    "redis://localhost/orders": "number of a database",
    "redis://localhost/-1": "number of a database",
    "redis://localhost/1/2": "number of a database",
    "redis://one:6379,two:6379/0": "several servers",
    "redis://one,two/0": "several servers",
    "redis://localhost?dbb=1": "option",
    "redis://localhost?retry=3": "option",
    "redis://localhost?ssl=true": "option",
    "redis://localhost?ssl_cert_reqs=none": "option",
    "rediss://localhost?ssl_ca_certs=/none.pem": "No such file",
    "redis://localhost?socket_timeout=0": "socket_timeout",
    "redis://localhost?socket_timeout=long": "socket_timeout",
    "unix://run/redis.sock": "path of a socket",
    "unix://": "path of a socket",
    "unix:///etc/hostname": "no socket",
    "sentinel://one:26379/orders": "Sentinels are named",
    "redis-sentinel://one:26379/orders": "Sentinels are named",
    "redis+sentinel://one:26379,two:26379": "service",
    "redis+sentinel://one:26379/orders/x": "number of a database",
    "redis+sentinel://one:x/orders": "port",
    "redis+sentinel://one,,two/orders": "host",
}
NOT_ENCODED = [
    "redis://:se@cret/w#rd@localhost:6379/0",
    "redis://user:se/cret@localhost:6379/0",
    "redis://user:se#cret@localhost:6379/0",
    "redis://user:se?cret@localhost:6379/0",
    "redis://user:1/secret@localhost:6379/0",
    "redis://user:1?secret@localhost:6379/0",
    "redis://user:1?secret=2@localhost:6379/0",
    "redis://user:1#secret@localhost:6379/0",
    "redis://:secret#@localhost:6379/0",
    "redis://user:[secret@localhost:6379/0",
    "redis+sentinel://user:se/cret@one:26379/orders",
]
WRONG_OPTIONS = [
    "redis://localhost?db=x",
    "redis://localhost?protocol=9",
    "redis://localhost?max_connections=-1",
    "rediss://localhost?ssl_cert_req=none",
    "rediss://localhost?ssl_cert_reqs=never",
    "rediss+sentinel://localhost/orders?ssl_cert_reqs=never",
]


@pytest.mark.parametrize("url", TAKEN)
def test_an_address_that_can_work_is_taken(url: str) -> None:
    RedisClient(url, timeout_seconds=1, connections=1).close()


@pytest.mark.parametrize(("url", "problem"), REFUSED.items())
def test_an_address_that_cannot_work_is_refused_with_the_reason(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        read_address(url)
    assert refused.value.setting == "REDIS_URL"


@pytest.mark.parametrize("url", NOT_ENCODED)
def test_a_password_that_is_not_percent_encoded_is_told_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encode") as refused:
        read_address(url)
    assert not any(part in str(refused.value) for part in ("se@", "cret", "secret", "w#rd"))


@pytest.mark.parametrize("url", WRONG_OPTIONS)
def test_an_option_with_a_wrong_value_is_refused_before_it_is_used(url: str) -> None:
    with pytest.raises(ConfigurationError, match="option"):
        RedisClient(url, timeout_seconds=1, connections=1)


def test_the_parts_of_a_service_of_sentinels_are_told_apart() -> None:
    url = "redis+sentinel://user:pw@one:1,two/orders/3?client_name=x&sentinel_password=y"
    assert read_address(url) == RedisAddress(
        "redis://user:pw@sentinels/3?client_name=x",
        (("one", 1), ("two", 26379)),
        service="orders",
        sentinel_login=(("password", "y"),),
    )


def test_a_socket_that_is_not_there_yet_is_taken(tmp_path: Path) -> None:
    assert read_address(f"unix://{tmp_path}/redis.sock").hosts == ()
