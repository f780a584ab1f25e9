"""Sets up the collection of products: creates it, verifies it, indexes, loads, makes its alias."""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.models import StoreIdentity
from product_consumer.stores.milvus.client import (
    LOAD_SECONDS,
    CallRefused,
    MilvusConnection,
    new_index,
    new_schema,
)
from product_consumer.stores.milvus.rows import (
    NULLABLE,
    SCALARS,
    field_names,
    identity_text,
    parse_identity,
    supports_null,
    vector_field,
)

log = logging.getLogger(__name__)

SETUP_SECONDS = 30.0
"""Bound on waiting for another process that is within the same set-up."""
_PAUSE_SECONDS = 0.25
_IDENTITY_PROPERTY = "product_consumer"


class _HalfWay(Exception):
    """Raised when another process seems to be within the same step; it will be done soon."""


def alias_target(connection: MilvusConnection, alias: str) -> str | None:
    """Return the collection that an alias points to; None where there is no such alias."""
    seconds = connection.timeout_seconds
    description = connection.find(lambda client: client.describe_alias(alias, timeout=seconds))
    return str(description["collection_name"]) if description else None


class CollectionSetup:
    """One set-up of a collection.

    Each step may be done already, or be done by another process meanwhile.
    """

    def __init__(
        self, connection: MilvusConnection, alias: str, vector_fields: tuple[str, ...]
    ) -> None:
        self._connection = connection
        self._alias = alias
        self._vector_fields = vector_fields
        self._seconds = connection.timeout_seconds

    def run(self, identity: StoreIdentity) -> Mapping[str, Any]:
        """Set up the collection and return its description.

        Raises ``ConfigurationError`` where it belongs to another ledger, model or choice of
        vectors, and ``StoreUnavailable``.
        """
        deadline = time.monotonic() + SETUP_SECONDS
        pause = threading.Event()
        while True:
            try:
                return self._prepare(identity)
            except _HalfWay as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailable("milvus", f"set-up does not end: {error}") from error
            pause.wait(_PAUSE_SECONDS)

    def _prepare(self, identity: StoreIdentity) -> Mapping[str, Any]:
        target = alias_target(self._connection, self._alias)
        if target is None:
            self._refuse_collection_of_that_name()
        collection = target or f"{self._alias}_v1"
        description = self._describe(collection) or self._create(collection, identity)
        self._verify(description, identity)
        self._create_indexes(collection)
        self._connection.call(
            lambda client: client.load_collection(collection, timeout=LOAD_SECONDS)
        )
        if target is None:
            self._create_alias(collection)
        return description

    def _refuse_collection_of_that_name(self) -> None:
        exists = self._connection.call(
            lambda client: client.has_collection(self._alias, timeout=self._seconds)
        )
        # Ask again: an alias counts as a collection here, and may have been made just now.
        if exists and alias_target(self._connection, self._alias) is None:
            raise ConfigurationError(
                "MILVUS_COLLECTION",
                f"{self._alias}: a collection has this name, and an alias is needed: give another",
            )

    def _describe(self, collection: str) -> Mapping[str, Any] | None:
        description: Mapping[str, Any] | None = self._connection.find(
            lambda client: client.describe_collection(collection, timeout=self._seconds)
        )
        return description

    def _create(self, collection: str, identity: StoreIdentity) -> Mapping[str, Any]:
        connection = self._connection
        nullable = supports_null(connection.version)
        schema = new_schema(identity, self._vector_fields, nullable=nullable)
        # Milvus Lite drops the description, and keeps a property of our own. Whether servers do is
        # not known.
        text = identity_text(identity)
        options = {"properties": {_IDENTITY_PROPERTY: text}} if connection.is_lite else {}
        try:
            connection.attempt(
                lambda client: client.create_collection(
                    collection, schema=schema, timeout=self._seconds, **options
                )
            )
            log.info("created the Milvus collection %s", collection)
        except CallRefused as error:
            if "multiple vector fields" in str(error):
                problem = "this server holds one vector per collection: set it to combined"
                raise ConfigurationError("MILVUS_VECTOR_FIELDS", problem) from error
            # Another process has made it meanwhile, as the next try finds; or it is a real refusal.
            raise _HalfWay(str(error)) from error
        except StoreUnavailable as error:
            # When two processes make it at once, Milvus Lite tells one of them "File exists".
            raise _HalfWay(str(error)) from error
        description = self._describe(collection)
        if description is None:
            raise _HalfWay(f"{collection} was made and is not there")
        return description

    def _verify(self, description: Mapping[str, Any], identity: StoreIdentity) -> None:
        collection = description["collection_name"]
        carried = (description.get("properties") or {}).get(_IDENTITY_PROPERTY, "")
        owner = parse_identity([carried, description.get("description") or ""])
        if owner is None:
            problem = f"{self._alias}: collection {collection} was not made by this program"
            raise ConfigurationError("MILVUS_COLLECTION", problem)
        if owner.ledger_id != identity.ledger_id:
            raise ConfigurationError(
                "DATABASE_URL",
                f"the Milvus collection {collection} belongs to another ledger ({owner.ledger_id},"
                f" not {identity.ledger_id}): all workers of one collection need the same ledger",
            )
        if (owner.model_id, owner.dimension) != (identity.model_id, identity.dimension):
            raise ConfigurationError(
                "OPENCLIP_MODEL",
                f"the Milvus collection {collection} holds embeddings of {owner.model_id}"
                f" ({owner.dimension}), not of {identity.model_id} ({identity.dimension})",
            )
        self._verify_fields(description)

    def _verify_fields(self, description: Mapping[str, Any]) -> None:
        declared = field_names(description)
        held = {name for name in declared if name.endswith("_embedding")}
        if held != {vector_field(name) for name in self._vector_fields}:
            names = ",".join(sorted(name.removesuffix("_embedding") for name in held))
            problem = f"{','.join(self._vector_fields)}: the collection holds {names}"
            raise ConfigurationError("MILVUS_VECTOR_FIELDS", problem)
        missing = set(SCALARS) - declared
        if missing and not (description.get("enable_dynamic_field") and missing <= set(NULLABLE)):
            problem = f"{self._alias}: the collection lacks {', '.join(sorted(missing))}"
            raise ConfigurationError("MILVUS_COLLECTION", problem)

    def _create_indexes(self, collection: str) -> None:
        seconds = self._seconds
        present = self._connection.call(
            lambda client: client.list_indexes(collection, timeout=seconds)
        )
        for field in map(vector_field, self._vector_fields):
            if field not in present:
                self._attempt_step("create_index", collection, new_index(field), sync=False)

    def _create_alias(self, collection: str) -> None:
        self._attempt_step("create_alias", collection, self._alias)

    def _attempt_step(self, name: str, *arguments: Any, **options: Any) -> None:
        try:
            self._connection.attempt(
                lambda client: getattr(client, name)(*arguments, timeout=self._seconds, **options)
            )
        except (CallRefused, StoreUnavailable) as error:
            raise _HalfWay(str(error)) from error
