"""Products in Elasticsearch, found by the words of their names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import Any
from unicodedata import normalize

from elastic_transport import ObjectApiResponse
from elasticsearch import (
    ApiError,
    BadRequestError,
    Elasticsearch,
    NotFoundError,
    TransportError,
    UnsupportedProductError,
)

from product_consumer.errors import (
    ConfigurationError,
    ProductConsumerError,
    RejectMessage,
    StoreUnavailable,
)
from product_consumer.models import MAX_ID_BYTES, Hit, ProductRow, StoreIdentity
from product_consumer.money import price_as_double
from product_consumer.stores.base import MAX_SEARCH_LIMIT
from product_consumer.stores.text_folding import MAX_QUERY_CHARACTERS

# One pool serves all threads, and a thread without a connection waits for one without a limit.
_MAX_CONNECTIONS = 64

_SETTINGS = {
    # An acknowledged write survives a power cut; the default, but one that clusters override.
    "index.translog.durability": "request",
    # How long a delete is remembered with its version: an older write that arrives after it must
    # still lose. The default of 60 s is shorter than a write may be under way.
    "index.gc_deletes": "1h",
    # Folding first: it knows capital letters whose lower case is more than one character (İ).
    "analysis.analyzer.folded": {
        "type": "custom",
        "tokenizer": "standard",
        "filter": ["asciifolding", "lowercase"],
    },
}
_SHOWN_ONLY = {"type": "keyword", "index": False, "doc_values": False}
_FIELDS: dict[str, dict[str, Any]] = {
    "id": {"type": "keyword"},
    "product_name": {
        "type": "text",
        "analyzer": "folded",
        "fields": {"keyword": {"type": "keyword", "ignore_above": 256}},
    },
    "store_url": _SHOWN_ONLY,
    "price": {"type": "double"},
    "currency": {"type": "keyword"},
    "rating": {"type": "double"},
    "reviews_count": {"type": "long"},
    "last_update": {"type": "date"},
    "image_url": _SHOWN_ONLY,
}
_REFUSED_DOCUMENT = {
    "mapper_parsing_exception",
    "document_parsing_exception",
    "strict_dynamic_mapping_exception",
    "illegal_argument_exception",
}


class ElasticsearchStore:
    """A ``KeywordStore`` on an Elasticsearch server, version 8 or 9.

    Readers and writers use the alias; the index behind it is ``<alias>_v1`` unless an operator has
    pointed the alias at another one. A document's external version is the product's revision, so
    the server itself refuses to go back. New documents are searchable after the index's next
    refresh (one second by default); ``read_revisions`` sees them at once.
    """

    name = "elasticsearch"

    def __init__(
        self, url: str, *, api_key: str | None, alias: str, timeout_seconds: float
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError("ELASTICSEARCH_URL", "needs a URL such as http://host:9200")
        self._alias = alias
        # The server gives up first, so that little can still land after we have.
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
        """See ``ProductStore.setup``. Only the ledger must be the same: words suit every model."""
        with _translated_errors():
            found = self._describe()
            if not found:
                self._create(identity)
                found = self._describe()
            self._verify(found, identity)
            self._client.cluster.health(
                index=self._alias, wait_for_active_shards="1", timeout=self._server_timeout
            )

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """See ``ProductStore.write``. The rows returned carry ``RejectMessage``."""
        failures = {row.id: _bad_id() for row in rows if not _is_valid_id(row.id)}
        accepted = [row for row in rows if row.id not in failures]
        if not accepted:
            return failures
        with _translated_errors():
            answer = self._client.bulk(
                index=self._alias,
                operations=[line for row in accepted for line in _operation(row)],
                # Without it a write after the index was dropped would create one without a mapping.
                require_alias=True,
                timeout=self._server_timeout,
            )
        for row, item in zip(accepted, _part_of(answer, "items"), strict=True):
            failure = self._failure(*item.values())
            if failure is not None:
                failures[row.id] = failure
        return failures

    def read_revisions(self, product_ids: Sequence[str]) -> dict[str, int]:
        """See ``ProductStore.read_revisions``; reads what is written, refreshed or not."""
        if not product_ids:
            return {}
        with _translated_errors():
            answer = self._client.mget(index=self._alias, ids=list(product_ids), source=False)
        documents = _part_of(answer, "docs")
        for document in documents:
            if "error" in document:
                raise StoreUnavailable(self.name, _short(document["error"]["reason"]))
        return {found["_id"]: found["_version"] for found in documents if found["found"]}

    def search_keywords(self, text: str, limit: int) -> list[Hit]:
        """See ``KeywordStore.search_keywords``."""
        size = min(limit, MAX_SEARCH_LIMIT)
        if size < 1:
            return []
        query = normalize("NFC", text[:MAX_QUERY_CHARACTERS])
        with _translated_errors():
            answer = self._client.search(
                index=self._alias,
                query={"match": {"product_name": {"query": query}}},
                size=size,
                version=True,
                source=False,
                track_total_hits=False,
                allow_partial_search_results=False,
                timeout=self._server_timeout,
            )
        hits = _part_of(answer, "hits")["hits"]
        return [Hit(hit["_id"], hit["_score"], hit["_version"]) for hit in hits]

    def ping(self) -> None:
        """See ``ProductStore.ping``: asks every shard of the index for one document."""
        with _translated_errors():
            _part_of(self._client.count(index=self._alias, terminate_after=1), "count")

    def describe(self) -> str:
        """See ``ProductStore.describe``."""
        with _translated_errors():
            version = _part_of(self._client.info(), "version")["number"]
            count = _part_of(self._client.count(index=self._alias), "count")
        node = next(iter(self._client.transport.node_pool.all()))
        return f"{node.base_url}, Elasticsearch {version}, {count} products in {self._alias}"

    def close(self) -> None:
        """See ``ProductStore.close``."""
        self._client.close()

    def _describe(self) -> dict[str, Any]:
        """The indexes behind the alias, or the index of that name, with their mappings."""
        try:
            body = self._client.indices.get(index=self._alias).body
        except NotFoundError:
            return {}
        if not isinstance(body, dict):
            raise StoreUnavailable(self.name, "it sent an answer without a body")
        return body

    def _create(self, identity: StoreIdentity) -> None:
        index = f"{self._alias}_v1"
        meta = {"ledger_id": identity.ledger_id, "model_id": identity.model_id}
        try:
            self._client.indices.create(
                index=index,
                # In the same request: readers never see the index without its alias.
                aliases={self._alias: {}},
                settings=_SETTINGS,
                mappings={"dynamic": "strict", "_meta": meta, "properties": _FIELDS},
                timeout=self._server_timeout,
            )
        except BadRequestError as error:
            # Another process was faster; what it made is verified like any other index.
            if error.error != "resource_already_exists_exception":
                raise _bad_index(f"cannot create {index}: {_reason(error)}") from error

    def _verify(self, found: dict[str, Any], identity: StoreIdentity) -> None:
        alias = self._alias
        if alias in found:
            raise _bad_index(f"{alias} is an index; the name must be free for an alias")
        if len(found) != 1:
            behind = ", ".join(sorted(found)) or f"nothing, although {alias}_v1 exists"
            raise _bad_index(f"the alias {alias} must point at one index; it points at {behind}")
        index, description = next(iter(found.items()))
        mapping = description["mappings"]
        owner = mapping.get("_meta", {}).get("ledger_id")
        if owner is None:
            raise _bad_index(f"the index {index} has no ledger_id in its _meta: not made by us")
        if owner != identity.ledger_id:
            raise ConfigurationError(
                "DATABASE_URL",
                f"the index {index} belongs to ledger {owner}, this is ledger {identity.ledger_id}",
            )
        properties = mapping.get("properties", {})
        wrong = [
            f"{field} ({wanted['type']})"
            for field, wanted in _FIELDS.items()
            if properties.get(field, {}).get("type") != wanted["type"]
        ]
        if wrong:
            raise _bad_index(f"the index {index} needs the fields {', '.join(wrong)}")

    def _failure(self, item: dict[str, Any]) -> RejectMessage | None:
        """What one line of a bulk answer means for its row; raises when it is no row's fault."""
        error = item.get("error")
        # 409: a newer revision is there. 404 without an error: nothing was there to delete.
        if error is None or item["status"] == 409:
            return None
        detail = _short(f"{error['type']}: {error['reason']}")
        # Refused before it reached an index (the alias has none to write to): no document's fault.
        reached_an_index = item["_index"] != self._alias
        if error["type"] in _REFUSED_DOCUMENT and reached_an_index:
            return RejectMessage("store_rejected", detail)
        raise _error_of_status(item["status"], error["type"], detail)


def _operation(row: ProductRow) -> Iterator[dict[str, Any]]:
    target = {"_id": row.id, "version": row.revision, "version_type": "external_gte"}
    if row.deleted:
        yield {"delete": target}
        return
    yield {"index": target}
    yield {
        "id": row.id,
        # asciifolding knows composed letters only.
        "product_name": normalize("NFC", row.name),
        "store_url": row.store_url,
        "price": price_as_double(row.price_minor, row.currency),
        "currency": row.currency,
        "rating": row.rating,
        "reviews_count": row.reviews_count,
        "last_update": row.last_update.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "image_url": row.image_url,
    }


def _part_of(answer: ObjectApiResponse[Any], name: str) -> Any:
    """One part of an answer. One that was cut off amid its headers has no body, and the client
    takes it for complete.
    """
    body = answer.body
    if not isinstance(body, dict) or name not in body:
        raise StoreUnavailable(ElasticsearchStore.name, f"it sent an answer without {name}")
    return body[name]


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except UnsupportedProductError as error:
        raise ConfigurationError(
            "ELASTICSEARCH_URL", "what answers there is not Elasticsearch"
        ) from error
    except ApiError as error:
        detail = _short(f"{error.status_code} {_reason(error)}")
        raise _error_of_status(error.status_code, error.error, detail) from error
    except TransportError as error:
        detail = _short(f"{type(error).__name__}: {error}")
        raise StoreUnavailable(ElasticsearchStore.name, detail) from error


def _error_of_status(status: int, error_type: str, detail: str) -> ProductConsumerError:
    # A blocked index (disk nearly full, made read-only) is answered with 403 too.
    if status in (401, 403) and error_type != "cluster_block_exception":
        return ConfigurationError("ELASTICSEARCH_API_KEY", f"was refused: {detail}")
    return StoreUnavailable(ElasticsearchStore.name, detail)


def _reason(error: ApiError) -> str:
    body = error.body
    cause = body.get("error") if isinstance(body, dict) else None
    return str(cause.get("reason", error.error)) if isinstance(cause, dict) else str(error.error)


def _bad_index(problem: str) -> ConfigurationError:
    return ConfigurationError("ELASTICSEARCH_INDEX", _short(problem))


def _is_valid_id(product_id: str) -> bool:
    """One bad id makes Elasticsearch refuse the whole bulk request, so it is kept out of it."""
    return 1 <= len(product_id.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES


def _bad_id() -> RejectMessage:
    return RejectMessage("store_rejected", f"an id needs 1 to {MAX_ID_BYTES} bytes")


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
