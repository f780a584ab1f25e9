"""Products in Milvus: one collection with a vector field per embedding, behind an alias."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from product_consumer.errors import ConfigurationError, ProductConsumerError, RejectMessage
from product_consumer.models import Hit, ProductRow, StoreIdentity
from product_consumer.stores.base import MAX_SEARCH_LIMIT
from product_consumer.stores.milvus.client import CallRefused, MilvusConnection
from product_consumer.stores.milvus.collection import CollectionSetup, alias_target
from product_consumer.stores.milvus.rows import field_names, id_filter, to_entities, vector_field
from product_consumer.stores.milvus.upsert_requests import RowPacker, send
from product_consumer.vectors import Embedding

_IDS_PER_CALL = 100


class MilvusStore:
    """A ``VectorStore`` in Milvus, on a server or embedded.

    Rows live in the collection ``<alias>_v1``, or where the alias points; readers use the alias. On
    a server ``search_vector`` may find a new row a moment late: a search that waits for every write
    took 200 ms on Milvus 2.3.5, a search that does not 3 ms. Thread-safe; raises as
    ``ProductStore`` says.
    """

    name = "milvus"

    def __init__(
        self,
        address: str,
        *,
        token: str | None,
        alias: str,
        vector_fields: tuple[str, ...],
        timeout_seconds: float,
    ) -> None:
        """``address``: ``http://host:port`` of a server, or the path of an embedded database."""
        self.vector_fields = vector_fields
        self._alias = alias
        self._connection = MilvusConnection(address, token=token, timeout_seconds=timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._declared: set[str] = set()
        self._packer = RowPacker({"fields": []})

    def setup(self, identity: StoreIdentity) -> None:
        """Create the collection, verify it, and load it: every restart of Milvus unloads it.

        Raises ``ConfigurationError`` naming ``DATABASE_URL`` (another ledger's rows),
        ``OPENCLIP_MODEL`` (another model's), ``MILVUS_VECTOR_FIELDS``, ``MILVUS_COLLECTION``,
        ``MILVUS_TOKEN`` or ``MILVUS_URI`` (an embedded database that is open elsewhere).
        """
        setup = CollectionSetup(self._connection, self._alias, self.vector_fields)
        description = setup.run(identity)
        self._declared = field_names(description)
        self._packer = RowPacker(description)

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        """Upsert the rows and remove the deleted ones.

        A row that Milvus refuses fails with ``RejectMessage``, or with ``RetryMessage`` where
        Milvus does not say whose fault it was.
        """
        present = [row for row in rows if not row.deleted]
        entities = to_entities(present, self.vector_fields, self._declared)
        failed: dict[str, ProductConsumerError] = {
            row.id: RejectMessage("store_rejected", "the row has no embeddings")
            for row in present
            if row.id not in entities
        }
        deleted = {row.id: None for row in rows if row.deleted}
        return failed | self._attempt(self._delete, deleted) | self._attempt(self._upsert, entities)

    def read_revisions(self, product_ids: Sequence[str]) -> dict[str, int]:
        """Return the revisions; waits for every write confirmed before (``Strong``)."""
        rows: list[Mapping[str, Any]] = []
        for expression in map(id_filter, _chunks(product_ids)):
            rows += self._query(filter=expression, output_fields=["id", "revision"])
        return {str(row["id"]): int(row["revision"]) for row in rows}

    def search_vector(self, field: str, embedding: Embedding, limit: int) -> list[Hit]:
        """Return the nearest products; ``ConfigurationError`` for a field that is not held.

        ``embedding``: unit length, float32, shape (dimension,).
        """
        if field not in self.vector_fields:
            held = ",".join(self.vector_fields)
            raise ConfigurationError("MILVUS_VECTOR_FIELDS", f"{held}: {field} is not among them")
        results = self._connection.call_loaded(
            self._alias,
            lambda client: client.search(
                self._alias,
                data=[embedding],
                anns_field=vector_field(field),
                limit=max(1, min(limit, MAX_SEARCH_LIMIT)),
                output_fields=["revision"],
                timeout=self._timeout_seconds,
            ),
        )
        return [Hit(str(hit.id), float(hit.distance), int(hit["revision"])) for hit in results[0]]

    def describe(self) -> str:
        """Return version, address, the alias with its collection, and the number of rows."""
        rows = int(self._query(output_fields=["count(*)"])[0]["count(*)"])
        target = alias_target(self._connection, self._alias)
        server = f"Milvus {self._connection.version} at {self._connection.label}"
        return f"{server}, collection {self._alias} -> {target}, {rows} rows"

    def close(self) -> None:
        """Close the connection; the last user of an embedded database waits until it is closed."""
        self._connection.close()

    def _query(self, **arguments: Any) -> list[Mapping[str, Any]]:
        return self._connection.call_loaded(
            self._alias,
            lambda client: list(
                client.query(
                    self._alias,
                    consistency_level="Strong",
                    timeout=self._timeout_seconds,
                    **arguments,
                )
            ),
        )

    def _upsert(self, client: Any, entities: Mapping[str, Any]) -> None:
        request = self._packer.pack(self._alias, list(entities.values()))
        send(client, request, timeout_seconds=self._timeout_seconds)

    def _delete(self, client: Any, product_ids: Collection[str]) -> None:
        for expression in map(id_filter, _chunks(list(product_ids))):
            client.delete(self._alias, filter=expression, timeout=self._timeout_seconds)

    def _attempt(
        self, action: Callable[[Any, Mapping[str, Any]], None], items: Mapping[str, Any]
    ) -> dict[str, ProductConsumerError]:
        if not items:
            return {}
        try:
            self._connection.attempt_writing(lambda client: action(client, items))
        except CallRefused as error:
            if len(items) == 1:
                return dict.fromkeys(items, error.for_row)
            # One row makes its whole batch fail: written alone, each row tells whether it does.
            alone = [self._attempt(action, {key: item}) for key, item in items.items()]
            return {key: error for failed in alone for key, error in failed.items()}
        return {}


def _chunks(product_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(product_ids), _IDS_PER_CALL):
        yield product_ids[start : start + _IDS_PER_CALL]
