"""Products in Elasticsearch, found by the words of their names."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any
from unicodedata import normalize

from elasticsearch import Elasticsearch

from product_consumer.errors import (
    ConfigurationError,
    ProductConsumerError,
    RejectMessage,
    StoreUnavailable,
)
from product_consumer.models import MAX_ID_BYTES, Hit, ProductRow, StoreIdentity
from product_consumer.money import price_as_double
from product_consumer.stores.base import MAX_SEARCH_LIMIT
from product_consumer.stores.elasticsearch.errors import (
    NAME,
    field_of,
    row_failure,
    short,
    translated_errors,
)
from product_consumer.stores.elasticsearch.index import IndexSetup
from product_consumer.stores.text_folding import MAX_QUERY_CHARACTERS, visible

# One pool serves all threads; a thread waits for a free connection without a limit.
_MAX_CONNECTIONS = 64


class ElasticsearchStore:
    """A ``KeywordStore`` on an Elasticsearch server, version 8 or 9.

    A document's external version is the product's revision, so the server itself refuses to go
    back. New documents are searchable after the index's next refresh (one second by default);
    ``read_revisions`` sees them at once. Thread-safe; raises as ``ProductStore`` says.
    """

    name = NAME

    def __init__(
        self, url: str, *, api_key: str | None, alias: str, timeout_seconds: float
    ) -> None:
        """Raises ``ConfigurationError`` for a URL that cannot be one; connects to nothing yet."""
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError("ELASTICSEARCH_URL", "needs a URL such as http://host:9200")
        self._alias = alias
        # The server gives up before the client: then little can land after the client's timeout.
        self._server_timeout = f"{max(1, int(timeout_seconds * 900))}ms"
        try:
            self._client = Elasticsearch(
                url,
                api_key=api_key,
                request_timeout=timeout_seconds,
                # Retrying is the caller's: a second layer would multiply the timeout.
                max_retries=0,
                retry_on_timeout=False,
                connections_per_node=_MAX_CONNECTIONS,
            )
        except ValueError:
            # The client's message may quote a password in the URL.
            raise ConfigurationError(
                "ELASTICSEARCH_URL", "needs one URL such as http://host:9200, and one way to log in"
            ) from None

    def setup(self, identity: StoreIdentity) -> None:
        """Set up the index. Only the ledger must be the same: words suit every model."""
        IndexSetup(self._client, self._alias, self._server_timeout).run(identity)

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """Write by one bulk request; a row that is refused fails with ``RejectMessage``."""
        failures = {row.id: _bad_id() for row in rows if not _is_valid_id(row.id)}
        accepted = [row for row in rows if row.id not in failures]
        if not accepted:
            return failures
        with translated_errors():
            response = self._client.bulk(
                index=self._alias,
                operations=[line for row in accepted for line in _operation(row)],
                # Else a write to a dropped index would create one without a mapping.
                require_alias=True,
                timeout=self._server_timeout,
            )
        for row, line in zip(accepted, field_of(response, "items"), strict=True):
            [item] = line.values()
            failure = row_failure(item, self._alias)
            if failure is not None:
                failures[row.id] = failure
        return failures

    def read_revisions(self, product_ids: Sequence[str]) -> dict[str, int]:
        """Return the revisions of written documents, searchable or not yet."""
        if not product_ids:
            return {}
        with translated_errors():
            response = self._client.mget(index=self._alias, ids=list(product_ids), source=False)
        documents = field_of(response, "docs")
        for document in documents:
            if "error" in document:
                raise StoreUnavailable(self.name, short(document["error"]["reason"]))
        return {doc["_id"]: doc["_version"] for doc in documents if doc["found"]}

    def search_keywords(self, text: str, limit: int) -> list[Hit]:
        """Return products by the words of their names, ranked by BM25."""
        size = min(limit, MAX_SEARCH_LIMIT)
        if size < 1:
            return []
        query = _searchable(text[:MAX_QUERY_CHARACTERS])
        with translated_errors():
            response = self._client.search(
                index=self._alias,
                query={"match": {"product_name": {"query": query}}},
                size=size,
                version=True,
                source=False,
                track_total_hits=False,
                allow_partial_search_results=False,
                timeout=self._server_timeout,
            )
        hits = field_of(response, "hits")["hits"]
        return [Hit(hit["_id"], hit["_score"], hit["_version"]) for hit in hits]

    def describe(self) -> str:
        """Return the address, the server's version and the number of searchable products."""
        with translated_errors():
            version = field_of(self._client.info(), "version")["number"]
            count = field_of(self._client.count(index=self._alias), "count")
        node = next(iter(self._client.transport.node_pool.all()))
        return f"{node.base_url}, Elasticsearch {version}, {count} products in {self._alias}"

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()


def _operation(row: ProductRow) -> Iterator[dict[str, Any]]:
    """The lines of a bulk request that write or delete the row."""
    target = {"_id": row.id, "version": row.revision, "version_type": "external_gte"}
    if row.deleted:
        yield {"delete": target}
        return
    yield {"index": target}
    yield {
        "id": row.id,
        "product_name": _searchable(row.name),
        "store_url": row.store_url,
        "price": price_as_double(row.price_minor, row.currency),
        "currency": row.currency,
        "rating": row.rating,
        "reviews_count": row.reviews_count,
        "last_update": row.last_update.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "image_url": row.image_url,
    }


def _searchable(text: str) -> str:
    """Return a name, or a query, as the index's analyzer reads it right.

    The analyzer folds composed letters only, and keeps invisible characters within words.
    """
    return normalize("NFC", visible(text))


def _is_valid_id(product_id: str) -> bool:
    """Whether Elasticsearch takes the id; a bad one makes it refuse the whole bulk request."""
    return 1 <= len(product_id.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES


def _bad_id() -> RejectMessage:
    return RejectMessage("store_rejected", f"an id needs 1 to {MAX_ID_BYTES} bytes")
