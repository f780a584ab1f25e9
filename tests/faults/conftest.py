"""Real servers behind proxies, for the tests that break them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.forked_workers import Nursery, NurseryArena
from tests.faults.harness.order_world import ORDERS, PRODUCTS, OrderArena
from tests.faults.harness.world import Arena, Servers

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def servers(
    elasticmq_url: str,
    postgres_server: str,
    elasticsearch_url: str,
    milvus_server_url: str,
    toxiproxy_url: str,
) -> Servers:
    return Servers(
        elasticmq_url, postgres_server, elasticsearch_url, milvus_server_url, toxiproxy_url
    )


@pytest.fixture
def arena(tmp_path: Path, servers: Servers, nursery: Nursery) -> Iterator[Arena]:
    opened = NurseryArena(tmp_path, servers, nursery)
    yield opened
    opened.close()


@pytest.fixture
def cold_arena(tmp_path: Path, servers: Servers) -> Iterator[Arena]:
    """Each worker is an interpreter of its own, from its start to its end."""
    opened = Arena(tmp_path, servers)
    yield opened
    opened.close()


@pytest.fixture
def order_arena(
    tmp_path: Path,
    elasticmq_url: str,
    postgres_server: str,
    toxiproxy_url: str,
    redis_url: str,
    nursery: Nursery,
) -> Iterator[OrderArena]:
    """Workers consume orders only; nobody listens where products would be shown."""
    servers = Servers(elasticmq_url, postgres_server, NOBODY, NOBODY, toxiproxy_url)
    opened = OrderArena(tmp_path, servers, redis_url, nursery)
    yield opened
    opened.close()


@pytest.fixture
def mixed_arena(
    tmp_path: Path, servers: Servers, redis_url: str, nursery: Nursery
) -> Iterator[OrderArena]:
    """Workers consume products and orders."""
    opened = OrderArena(tmp_path, servers, redis_url, nursery, (PRODUCTS, ORDERS))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Starts workers quickly, with the stand-in for the model."""
    with Nursery() as started:
        yield started


@pytest.fixture(scope="session")
def device_nursery() -> Iterator[Nursery]:
    """The same with the real embedder, on a device that fails when it is told to."""
    with Nursery("--torch") as started:
        yield started
