"""Real servers behind proxies, for the tests that break them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.arena import Arena, Servers


@pytest.fixture
def arena(
    tmp_path: Path,
    elasticmq_url: str,
    postgres_server: str,
    elasticsearch_url: str,
    milvus_server_url: str,
    toxiproxy_url: str,
) -> Iterator[Arena]:
    servers = Servers(
        elasticmq_url, postgres_server, elasticsearch_url, milvus_server_url, toxiproxy_url
    )
    opened = Arena(tmp_path, servers)
    yield opened
    opened.close()
