"""The index behind the alias: its settings, its mapping, and how it is set up."""

from typing import Any

from elasticsearch import BadRequestError, Elasticsearch, NotFoundError

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.models import StoreIdentity
from product_consumer.stores.elasticsearch.errors import NAME, reason_of, short, translated_errors

SETTINGS = {
    # An acknowledged write survives a power cut. It is the default, but clusters override it.
    "index.translog.durability": "request",
    # How long a delete is remembered with its version: an older write that arrives after it must
    # still lose. A write may be under way for longer than the default of 60 s.
    "index.gc_deletes": "1h",
    # Folding comes first: it knows capitals whose lower case is more than one character (İ).
    "analysis.analyzer.folded": {
        "type": "custom",
        "tokenizer": "standard",
        "filter": ["asciifolding", "lowercase"],
    },
}
_STORED_ONLY = {"type": "keyword", "index": False, "doc_values": False}
FIELDS: dict[str, dict[str, Any]] = {
    "id": {"type": "keyword"},
    "product_name": {
        "type": "text",
        "analyzer": "folded",
        "fields": {"keyword": {"type": "keyword", "ignore_above": 256}},
    },
    "store_url": _STORED_ONLY,
    "price": {"type": "double"},
    "currency": {"type": "keyword"},
    "rating": {"type": "double"},
    "reviews_count": {"type": "long"},
    "last_update": {"type": "date"},
    "image_url": _STORED_ONLY,
}


class IndexSetup:
    """One set-up of the index; another process may be doing the same meanwhile.

    Readers and writers use the alias. The index behind it is ``<alias>_v1`` unless an operator has
    pointed the alias at another one.
    """

    def __init__(self, client: Elasticsearch, alias: str, server_timeout: str) -> None:
        """``server_timeout``: of one request, in Elasticsearch's units (``900ms``)."""
        self._client = client
        self._alias = alias
        self._server_timeout = server_timeout

    def run(self, identity: StoreIdentity) -> None:
        """Create the index where there is none, verify it, and wait until it can serve.

        Raises ``StoreUnavailable``, and ``ConfigurationError`` where the index belongs to another
        ledger or lacks a field.
        """
        with translated_errors():
            indexes = self._describe()
            if not indexes:
                self._create(identity)
                indexes = self._describe()
            self._verify(indexes, identity)
            self._client.cluster.health(
                index=self._alias, wait_for_active_shards="1", timeout=self._server_timeout
            )

    def _describe(self) -> dict[str, Any]:
        """Return the indexes behind the alias, or the index of that name, with their mappings."""
        try:
            body = self._client.indices.get(index=self._alias).body
        except NotFoundError:
            return {}
        if not isinstance(body, dict):
            raise StoreUnavailable(NAME, "it sent an answer without a body")
        return body

    def _create(self, identity: StoreIdentity) -> None:
        index = f"{self._alias}_v1"
        meta = {"ledger_id": identity.ledger_id, "model_id": identity.model_id}
        try:
            self._client.indices.create(
                index=index,
                # In the same request: readers never see the index without its alias.
                aliases={self._alias: {}},
                settings=SETTINGS,
                mappings={"dynamic": "strict", "_meta": meta, "properties": FIELDS},
                timeout=self._server_timeout,
            )
        except BadRequestError as error:
            # Another process was faster; its index is verified like any other.
            if error.error != "resource_already_exists_exception":
                raise _bad_index(f"cannot create {index}: {reason_of(error)}") from error

    def _verify(self, indexes: dict[str, Any], identity: StoreIdentity) -> None:
        alias = self._alias
        if alias in indexes:
            raise _bad_index(f"{alias} is an index; the name must be free for an alias")
        if len(indexes) != 1:
            behind = ", ".join(sorted(indexes)) or f"nothing, although {alias}_v1 exists"
            raise _bad_index(f"the alias {alias} must point at one index; it points at {behind}")
        index, description = next(iter(indexes.items()))
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
            f"{field} ({expected['type']})"
            for field, expected in FIELDS.items()
            if properties.get(field, {}).get("type") != expected["type"]
        ]
        if wrong:
            raise _bad_index(f"the index {index} needs the fields {', '.join(wrong)}")


def _bad_index(problem: str) -> ConfigurationError:
    return ConfigurationError("ELASTICSEARCH_INDEX", short(problem))
