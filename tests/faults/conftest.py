"""Worlds of real servers behind proxies, for the tests that break them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.forked_workers import ForkedWorld, ForkServer
from tests.faults.harness.order_world import ORDERS, PRODUCTS, OrderWorld
from tests.faults.harness.world import FaultWorld, Servers
from tests.support.rabbitmq_node import RabbitServer

UNREACHABLE = "http://127.0.0.1:1"


@pytest.fixture(params=["sqs", pytest.param("rabbitmq", marks=pytest.mark.soak)])
def queue_server(request: pytest.FixtureRequest) -> RabbitServer | str:
    """The server of the queues: SQS, and RabbitMQ with the long tests.

    ``tests/faults/rabbitmq`` has a share of the latter that always runs.
    """
    found: RabbitServer | str = request.getfixturevalue(
        "rabbitmq_server" if request.param == "rabbitmq" else "elasticmq_url"
    )
    return found


@pytest.fixture
def servers(
    queue_server: RabbitServer | str,
    postgres_server: str,
    elasticsearch_url: str,
    milvus_server_url: str,
    toxiproxy_url: str,
) -> Servers:
    return Servers(
        queue_server, postgres_server, elasticsearch_url, milvus_server_url, toxiproxy_url
    )


@pytest.fixture
def world(tmp_path: Path, servers: Servers, fork_server: ForkServer) -> Iterator[FaultWorld]:
    opened = ForkedWorld(tmp_path, servers, fork_server)
    yield opened
    opened.close()


@pytest.fixture
def cold_world(tmp_path: Path, servers: Servers) -> Iterator[FaultWorld]:
    """A world in which each worker starts its own interpreter."""
    opened = FaultWorld(tmp_path, servers)
    yield opened
    opened.close()


@pytest.fixture
def order_world(
    tmp_path: Path,
    queue_server: RabbitServer | str,
    postgres_server: str,
    toxiproxy_url: str,
    redis_url: str,
    fork_server: ForkServer,
) -> Iterator[OrderWorld]:
    """A world whose workers consume orders only; there is no store for products."""
    servers = Servers(queue_server, postgres_server, UNREACHABLE, UNREACHABLE, toxiproxy_url)
    opened = OrderWorld(tmp_path, servers, redis_url, fork_server)
    yield opened
    opened.close()


@pytest.fixture
def mixed_world(
    tmp_path: Path, servers: Servers, redis_url: str, fork_server: ForkServer
) -> Iterator[OrderWorld]:
    """A world whose workers consume products and orders."""
    opened = OrderWorld(tmp_path, servers, redis_url, fork_server, (PRODUCTS, ORDERS))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Starts workers quickly, with the fake embedder."""
    with ForkServer() as started:
        yield started


@pytest.fixture(scope="session")
def device_fork_server() -> Iterator[ForkServer]:
    """Starts workers quickly, with the real embedder on a device that fails on demand."""
    with ForkServer("--torch") as started:
        yield started
