"""What only Elasticsearch does: its index, its alias, and what its responses mean."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from product_consumer.errors import ConfigurationError, RejectMessage, StoreUnavailable
from product_consumer.models import StoreIdentity
from product_consumer.stores.elasticsearch.store import ElasticsearchStore
from product_consumer.stores.text_folding import fold
from tests.support.factories import product_row

IDENTITY = StoreIdentity(ledger_id="ledger-1", model_id="model-1", dimension=16)
LETTERS_OF_LATIN_1_AND_VIETNAMESE = [
    letter
    for number in (*range(0xC0, 0x180), *range(0x1EA0, 0x1EFA))
    # These three are more than a letter: the stores treat their dot and apostrophe differently.
    if (letter := chr(number)).isalpha() and letter not in "Ŀŀŉ"
]


@dataclass(frozen=True)
class Cluster:
    url: str
    alias: str
    client: Elasticsearch

    def open(self) -> ElasticsearchStore:
        return ElasticsearchStore(self.url, api_key=None, alias=self.alias, timeout_seconds=20.0)

    def document(self, product_id: str) -> dict[str, Any]:
        return dict(self.client.get(index=self.alias, id=product_id)["_source"])

    def index(self) -> tuple[str, dict[str, Any]]:
        return next(iter(self.client.indices.get(index=self.alias).items()))


@pytest.fixture
def cluster(elasticsearch_url: str) -> Iterator[Cluster]:
    alias = f"test_{uuid.uuid4().hex}"
    with Elasticsearch(elasticsearch_url, request_timeout=20) as client:
        yield Cluster(elasticsearch_url, alias, client)
        for index in ("", "_v1", "_v2", "_v3"):
            client.options(ignore_status=[400, 404]).indices.delete(index=alias + index)


@pytest.fixture
def store(cluster: Cluster) -> Iterator[ElasticsearchStore]:
    with closing(cluster.open()) as opened:
        opened.setup(IDENTITY)
        yield opened


def refused(cluster: Cluster) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as error, closing(cluster.open()) as store:
        store.setup(IDENTITY)
    return error.value


def test_setup_creates_a_strict_index_behind_the_alias(cluster, store):
    name, index = cluster.index()

    assert name == f"{cluster.alias}_v1"
    assert list(index["aliases"]) == [cluster.alias]
    assert index["mappings"]["dynamic"] == "strict"
    assert index["mappings"]["_meta"] == {"ledger_id": "ledger-1", "model_id": "model-1"}
    assert index["settings"]["index"]["gc_deletes"] == "1h"
    assert {field: kind["type"] for field, kind in index["mappings"]["properties"].items()} == {
        "id": "keyword",
        "product_name": "text",
        "store_url": "keyword",
        "price": "double",
        "currency": "keyword",
        "rating": "double",
        "reviews_count": "long",
        "last_update": "date",
        "image_url": "keyword",
    }


def test_a_document_holds_what_readers_know(cluster, store):
    at = datetime(2026, 11, 21, 14, 30, 5, 250_000, tzinfo=UTC)
    store.write([product_row(price_minor=129_900, currency="USD", last_update=at, revision=4)])

    assert cluster.document("abc123") == {
        "id": "abc123",
        "product_name": "Áo thun nam cổ tròn",
        "store_url": "https://shop.example/p/abc123",
        "price": 1299.0,
        "currency": "USD",
        "rating": 4.8,
        "reviews_count": 1520,
        "last_update": "2026-11-21T14:30:05.250000Z",
        "image_url": "https://cdn.example/img/abc123.jpg",
    }
    assert cluster.client.get(index=cluster.alias, id="abc123")["_version"] == 4


def test_a_price_in_a_currency_without_cents_is_not_divided(cluster, store):
    store.write([product_row(price_minor=1_299_000, currency="VND")])

    assert cluster.document("abc123")["price"] == 1_299_000


def test_an_alias_that_points_at_another_index_is_used(cluster, store):
    _, index = cluster.index()
    analysis = {"analysis": index["settings"]["index"]["analysis"]}
    cluster.client.indices.create(
        index=f"{cluster.alias}_v2", mappings=index["mappings"], settings=analysis
    )
    point_alias_at(cluster, "_v2")

    with closing(cluster.open()) as moved:
        moved.setup(IDENTITY)
        moved.write([product_row()])

    assert cluster.client.get(index=f"{cluster.alias}_v2", id="abc123")["found"]


def point_alias_at(cluster: Cluster, suffix: str) -> None:
    cluster.client.indices.update_aliases(
        actions=[
            {"remove": {"index": f"{cluster.alias}_v1", "alias": cluster.alias}},
            {"add": {"index": cluster.alias + suffix, "alias": cluster.alias}},
        ]
    )


def test_an_index_named_like_the_alias_is_refused(cluster):
    cluster.client.indices.create(index=cluster.alias)

    error = refused(cluster)

    assert error.setting == "ELASTICSEARCH_INDEX"
    assert "is an index" in error.problem


def test_an_alias_on_two_indexes_is_refused(cluster, store):
    cluster.client.indices.create(index=f"{cluster.alias}_v2", aliases={cluster.alias: {}})

    assert refused(cluster).setting == "ELASTICSEARCH_INDEX"


def test_an_index_that_has_lost_its_alias_is_refused(cluster, store):
    cluster.client.indices.delete_alias(index=f"{cluster.alias}_v1", name=cluster.alias)

    assert refused(cluster).setting == "ELASTICSEARCH_INDEX"


def test_an_index_of_another_program_is_refused(cluster):
    cluster.client.indices.create(index=f"{cluster.alias}_v2", aliases={cluster.alias: {}})

    error = refused(cluster)

    assert error.setting == "ELASTICSEARCH_INDEX"
    assert "ledger_id" in error.problem


def test_an_index_with_another_mapping_is_refused_naming_the_fields(cluster):
    cluster.client.indices.create(
        index=f"{cluster.alias}_v2",
        aliases={cluster.alias: {}},
        mappings={"_meta": {"ledger_id": "ledger-1"}, "properties": {"id": {"type": "long"}}},
    )

    error = refused(cluster)

    assert error.setting == "ELASTICSEARCH_INDEX"
    assert "id (keyword)" in error.problem
    assert "product_name (text)" in error.problem


def test_one_document_that_cannot_be_indexed_fails_alone(store):
    failures = store.write([product_row(id="bad", rating=float("nan")), product_row(id="good")])

    assert list(failures) == ["bad"]
    assert isinstance(failures["bad"], RejectMessage)
    assert failures["bad"].reason == "store_rejected"
    assert store.read_revisions(["bad", "good"]) == {"good": 1}


@pytest.mark.parametrize("bad_id", ["", "x" * 513, "₫" * 171])
def test_an_id_that_elasticsearch_cannot_take_fails_alone(store, bad_id):
    failures = store.write([product_row(id=bad_id), product_row(id="good")])

    assert isinstance(failures[bad_id], RejectMessage)
    assert store.read_revisions(["good"]) == {"good": 1}


def test_a_dropped_index_is_an_outage_and_is_not_created_by_a_write(cluster, store):
    cluster.client.indices.delete(index=f"{cluster.alias}_v1")

    with pytest.raises(StoreUnavailable):
        store.write([product_row()])
    with pytest.raises(StoreUnavailable):
        store.read_revisions(["abc123"])
    with pytest.raises(StoreUnavailable):
        store.search_keywords("ao", 10)
    assert not cluster.client.indices.exists(index=cluster.alias)


def test_an_alias_without_a_write_index_is_an_outage_and_rejects_nothing(cluster, store):
    cluster.client.indices.create(index=f"{cluster.alias}_v2", aliases={cluster.alias: {}})

    with pytest.raises(StoreUnavailable):
        store.write([product_row()])


@pytest.mark.parametrize("block", ["index.blocks.write", "index.blocks.read_only_allow_delete"])
def test_a_blocked_index_is_an_outage_and_rejects_nothing(cluster, store, block):
    cluster.client.indices.put_settings(index=cluster.alias, settings={block: True})

    with pytest.raises(StoreUnavailable):
        store.write([product_row()])


def test_a_description_names_the_address_the_version_and_the_number_of_products(cluster, store):
    store.write([product_row()])
    cluster.client.indices.refresh(index=cluster.alias)

    assert store.describe().startswith(f"{cluster.url}, Elasticsearch ")
    assert store.describe().endswith(f", 1 products in {cluster.alias}")


def test_both_keyword_stores_fold_letters_alike(cluster, store):
    response = cluster.client.indices.analyze(
        index=cluster.alias, analyzer="folded", text=LETTERS_OF_LATIN_1_AND_VIETNAMESE
    )
    folded = [token["token"] for token in response["tokens"]]

    assert folded == [fold(letter) for letter in LETTERS_OF_LATIN_1_AND_VIETNAMESE]


@contextmanager
def stub(status: int, body: Any, product: str = "Elasticsearch") -> Iterator[str]:
    """A server on loopback that gives every request the same response."""
    text = body if isinstance(body, str) else json.dumps(body)
    kind = "text/html" if text.startswith("<") else "application/json"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("X-Elastic-Product", product)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = do_HEAD = do_POST

        def log_message(self, *arguments: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def open_store(url: str) -> ElasticsearchStore:
    return ElasticsearchStore(url, api_key="key", alias="products", timeout_seconds=5.0)


def failure_of_a_write(status: int, body: Any, product: str = "Elasticsearch") -> Exception:
    with (
        stub(status, body, product) as url,
        closing(open_store(url)) as store,
        pytest.raises((ConfigurationError, StoreUnavailable)) as failure,
    ):
        store.write([product_row()])
    return failure.value


def api_error(error_type: str) -> dict[str, Any]:
    return {"error": {"type": error_type, "reason": "because"}}


def bulk_item(status: int, error_type: str) -> dict[str, Any]:
    error = {"type": error_type, "reason": "because"}
    item = {"_index": "products_v1", "_id": "abc123", "status": status, "error": error}
    return {"took": 1, "errors": True, "items": [{"index": item}]}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, api_error("es_rejected_execution_exception")),
        (403, api_error("cluster_block_exception")),
        (500, api_error("exception")),
        (502, "<html>Bad Gateway</html>"),
        (503, api_error("master_not_discovered_exception")),
        (200, "{truncated"),
        (200, ""),
        (200, {}),
        (200, bulk_item(429, "es_rejected_execution_exception")),
        (200, bulk_item(429, "cluster_block_exception")),
        (200, bulk_item(403, "cluster_block_exception")),
        (200, bulk_item(503, "unavailable_shards_exception")),
    ],
)
def test_a_passing_failure_is_an_outage(status, body):
    failure = failure_of_a_write(status, body)

    assert isinstance(failure, StoreUnavailable)
    assert failure.dependency == "elasticsearch"


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.read_revisions(["abc123"]),
        lambda store: store.search_keywords("mug", 10),
        lambda store: store.describe(),
        lambda store: store.setup(IDENTITY),
    ],
    ids=["read_revisions", "search_keywords", "describe", "setup"],
)
def test_a_response_that_was_cut_off_before_its_body_is_an_outage(call):
    with stub(200, "") as url, closing(open_store(url)) as store, pytest.raises(StoreUnavailable):
        call(store)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, api_error("security_exception")),
        (403, api_error("security_exception")),
        (401, "<html>Unauthorized</html>"),
        (200, bulk_item(403, "security_exception")),
    ],
)
def test_refused_credentials_name_the_setting(status, body):
    failure = failure_of_a_write(status, body)

    assert isinstance(failure, ConfigurationError)
    assert failure.setting == "ELASTICSEARCH_API_KEY"


def test_a_server_that_is_not_elasticsearch_names_the_setting():
    failure = failure_of_a_write(200, {"items": []}, product="Something else")

    assert isinstance(failure, ConfigurationError)
    assert failure.setting == "ELASTICSEARCH_URL"


@pytest.mark.parametrize(
    "url", ["localhost:9200", "http://user:secret@host", "http://user:secret@h:99999", "ftp://h:1"]
)
def test_an_address_that_cannot_be_one_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError) as error:
        ElasticsearchStore(url, api_key=None, alias="products", timeout_seconds=5.0)

    assert error.value.setting == "ELASTICSEARCH_URL"
    assert "secret" not in str(error.value)
