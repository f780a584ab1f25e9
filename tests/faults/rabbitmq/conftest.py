"""A queue of its own for each test, and a server that must have had nothing to complain about."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.harness.toxiproxy import Proxy
from tests.faults.rabbitmq.bench import Bench
from tests.support.rabbitmq_node import RabbitNode

# What a client does wrong: a tag that is unknown, a frame too large, a header that is no header.
OUR_FAULT = ("unknown delivery tag", "FRAME_ERROR", "SYNTAX_ERROR", "UNEXPECTED_FRAME")


@pytest.fixture
def bench(rabbitmq_node: RabbitNode, tmp_path: Path) -> Iterator[Bench]:
    """A quorum queue as ``setup-queues`` makes it."""
    yield from _bench(rabbitmq_node, tmp_path, is_quorum=True)


@pytest.fixture(params=["quorum", pytest.param("classic", marks=pytest.mark.soak)])
def any_bench(
    rabbitmq_node: RabbitNode, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    """Each kind of queue; other people's, without arguments, with the long tests only."""
    yield from _bench(rabbitmq_node, tmp_path, is_quorum=request.param == "quorum")


@pytest.fixture
def proxy(rabbitmq_node: RabbitNode, toxiproxy_url: str) -> Iterator[Proxy]:
    """A network before the node, to cut and to slow down."""
    upstream = f"{rabbitmq_node.host}:{rabbitmq_node.port}"
    proxy = Proxy(toxiproxy_url, f"rabbitmq-{uuid.uuid4().hex[:12]}", upstream)
    yield proxy
    proxy.close()


@pytest.fixture
def proxy_port(proxy: Proxy) -> int:
    return int(urlsplit(f"//{proxy.address}").port or 0)


def _bench(node: RabbitNode, data_dir: Path, *, is_quorum: bool) -> Iterator[Bench]:
    bench = Bench(node, data_dir)
    if is_quorum:
        bench.set_up()
    else:
        bench.set_up_classic()
    logged_before = len(node.log)
    yield bench
    node.heal()
    bench.close()
    complaints = [
        line for line in node.log[logged_before:].splitlines() if any(t in line for t in OUR_FAULT)
    ]
    assert complaints == []
