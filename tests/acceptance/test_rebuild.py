"""``rebuild`` on real servers: a dropped collection and a dropped index are filled again."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch
from pymilvus import MilvusClient
from typer.testing import CliRunner

from product_consumer.cli.app import app
from product_consumer.ledger.ledger import Ledger, open_ledger
from product_consumer.ledger.rows import ProductChange
from product_consumer.settings import read_settings
from product_consumer.stores.base import ProductStore
from product_consumer.stores.opening import open_stores
from tests.support import factories

COUNT = 250
DELETED = "p7"
IDS = [f"p{number}" for number in range(COUNT)]
PRESENT = {key: 1 for key in IDS if key != DELETED}


@pytest.fixture
def alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name of its own on shared servers; the ledger is in ``tmp_path``."""
    name = f"rebuild_{uuid.uuid4().hex[:12]}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MILVUS_COLLECTION", name)
    monkeypatch.setenv("ELASTICSEARCH_INDEX", name)
    return name


@pytest.fixture
def ledger(alias: str) -> Iterator[Ledger]:
    opened = open_ledger(read_settings(None))
    opened.setup()
    opened.claim_model("tiny/test", 16)
    embeddings = factories.embeddings(dimension=16)
    opened.record([ProductChange(factories.product(id=key), embeddings) for key in IDS])
    opened.record([ProductChange(factories.tombstone(DELETED), None)])
    yield opened
    opened.close()


def rebuild(name: str) -> str:
    result = CliRunner().invoke(app, ["rebuild", name])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def revisions(choose: Callable[..., ProductStore]) -> dict[str, int]:
    stores = open_stores(read_settings(None))
    try:
        return choose(stores).read_revisions(IDS)
    finally:
        stores.close()


def test_milvus_comes_back_after_its_collection_was_dropped(
    ledger: Ledger, alias: str, milvus_server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILVUS_URI", milvus_server_url)
    rebuild("milvus")
    client = MilvusClient(milvus_server_url, dedicated=True)
    client.drop_alias(alias)
    client.drop_collection(f"{alias}_v1")

    assert "milvus: 250 products written" in rebuild("milvus")
    assert revisions(lambda stores: stores.vectors) == PRESENT
    client.drop_alias(alias)
    client.drop_collection(f"{alias}_v1")
    client.close()


def test_elasticsearch_comes_back_after_its_index_was_dropped(
    ledger: Ledger, alias: str, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    rebuild("elasticsearch")
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.delete(index=f"{alias}_v1")

        assert "elasticsearch: 250 products written" in rebuild("elasticsearch")
        assert revisions(lambda stores: stores.keywords) == PRESENT
        client.indices.delete(index=f"{alias}_v1")
