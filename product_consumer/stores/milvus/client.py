"""Calls to one Milvus, server or embedded: connected late, timed, their errors translated."""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc

from product_consumer.environment import grpc_ca_file
from product_consumer.errors import (
    ConfigurationError,
    ProductConsumerError,
    RejectMessage,
    RetryMessage,
    StoreUnavailable,
)
from product_consumer.models import MAX_ID_BYTES, StoreIdentity
from product_consumer.network.tls import why_plain_fails, why_tls_fails
from product_consumer.stores.milvus.embedded import EmbeddedMilvus
from product_consumer.stores.milvus.errors import Failure, classify, describe, refusal_of
from product_consumer.stores.milvus.pymilvus_import import (
    DataNotMatchException,
    DataType,
    MilvusClient,
    MilvusException,
    ParamError,
)
from product_consumer.stores.milvus.rows import (
    NULLABLE,
    SCALARS,
    TEXT_BYTES,
    WHOLE_NUMBERS,
    identity_text,
    vector_field,
)

log = logging.getLogger(__name__)
# Importing pymilvus gave its loggers handlers and levels of their own. They print a traceback for
# every call that fails, even those expected at a first start. Our own errors reach the log anyway.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)

LOAD_SECONDS = 30.0
"""Bound on loading a collection into memory; a server takes 3 s for an empty one."""

# Of an address without a port.
_PORT, _TLS_PORT = 19_530, 443
_CLIENT_ERRORS = (MilvusException, grpc.RpcError, ValueError)
# 100: a collection anywhere, or an alias in Milvus Lite. 1600: an alias on a server.
_NOT_FOUND_CODES = (100, 1600)

Result = TypeVar("Result")
Action = Callable[[MilvusClient], Result]


class CallRefused(Exception):
    """Raised when Milvus understood a call and refused it; never leaves the store.

    ``for_row``: the error of a row that was written alone.
    """

    def __init__(self, detail: str, for_row: ProductConsumerError) -> None:
        super().__init__(detail)
        self.for_row = for_row


class MilvusConnection:
    """The client of one Milvus, connected at the first call. Thread-safe.

    Where the embedded server has died, or another process has started it again, the next call finds
    or starts the new server.
    """

    def __init__(self, address: str, *, token: str | None, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._embedded = None if "://" in address else EmbeddedMilvus(Path(address))
        self.label = str(self._embedded.path) if self._embedded else _without_credentials(address)
        self._uri = address
        self._token = token or ""
        self._version = ""
        self._client: MilvusClient | None = None
        self._connecting = threading.Lock()
        self._one_writer = threading.Lock()

    @property
    def is_lite(self) -> bool:
        """True for Milvus Lite, embedded or on a server of its own; known after the first call."""
        return self._version.startswith("milvus_lite")

    @property
    def version(self) -> str:
        """The version that the server tells; empty before the first call."""
        return self._version

    def call(self, action: Action[Result]) -> Result:
        """Run ``action``; raise ``StoreUnavailable`` or ``ConfigurationError`` where it fails."""
        client = self._connected()
        try:
            return action(client)
        except _CLIENT_ERRORS as error:
            raise self._outage(error) from error

    def find(self, action: Action[Result]) -> Result | None:
        """Like ``call``, but return None where the collection or alias does not exist."""
        client = self._connected()
        try:
            return action(client)
        except _CLIENT_ERRORS as error:
            if getattr(error, "code", None) in _NOT_FOUND_CODES:
                return None
            raise self._outage(error) from error

    def call_loaded(self, collection: str, action: Action[Result]) -> Result:
        """Like ``call``, for searches and queries: loads what a restart of Milvus left unloaded."""
        client = self._connected()
        try:
            return action(client)
        except _CLIENT_ERRORS as error:
            if classify(error) is not Failure.NOT_LOADED:
                raise self._outage(error) from error
        self.call(lambda loading: loading.load_collection(collection, timeout=LOAD_SECONDS))
        return self.call(action)

    def attempt(self, action: Action[Result]) -> Result:
        """Like ``call``, but raise ``CallRefused`` where the call itself may be at fault."""
        client = self._connected()
        try:
            return action(client)
        except _CLIENT_ERRORS as error:
            raise self._translated(error) from error

    def attempt_writing(self, action: Action[Result]) -> Result:
        """Like ``attempt``, but one call at a time on Milvus Lite, which allows one writer."""
        self._connected()
        if not self.is_lite:
            return self.attempt(action)
        with self._one_writer:
            return self.attempt(action)

    def close(self) -> None:
        """Close the connection; the last user of an embedded database waits until it is closed."""
        with self._connecting:
            self._disconnect()
            if self._embedded:
                self._embedded.close()

    def _connected(self) -> MilvusClient:
        with self._connecting:
            if self._embedded:
                self._follow(self._embedded)
            self._client = self._client or self._connect()
            return self._client

    def _follow(self, embedded: EmbeddedMilvus) -> None:
        address = embedded.address() if self._client else None
        if address is None:
            try:
                address = embedded.start()
            except ConfigurationError as error:
                if self._client is None:
                    raise
                # It worked before: the program that opened the database meanwhile may close it.
                raise StoreUnavailable("milvus", error.problem) from error
        if address != self._uri:
            self._disconnect()
            self._uri = address

    def _connect(self) -> MilvusClient:
        seconds = self.timeout_seconds
        try:
            # Dedicated: pymilvus would share one connection per address and never close it.
            client = MilvusClient(self._uri, token=self._token, timeout=seconds, dedicated=True)
            self._version = str(client.get_server_version(timeout=seconds))
        except _CLIENT_ERRORS as error:
            # pymilvus says only that it cannot connect; gRPC says why.
            cause = error.__cause__
            told = cause if isinstance(cause, Exception) else error
            raise self._refusal(error) or self._outage(told) from error
        return client

    def _refusal(self, error: Exception) -> ConfigurationError | None:
        """Return what no wait can mend: pymilvus hides why it cannot connect."""
        cause = error.__cause__
        words = f"{describe(error)} {describe(cause) if cause else ''}"
        if self._embedded is None:
            words = _why_refused(self._uri) or words
        refusal = refusal_of(error, words)
        if refusal is None or refusal.setting is None:
            return None
        return ConfigurationError(refusal.setting, f"{self.label}: {refusal.why}: {words}")

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def _outage(self, error: Exception) -> ProductConsumerError:
        translated = self._translated(error)
        if isinstance(translated, CallRefused):
            return StoreUnavailable("milvus", str(translated))
        return translated

    def _translated(self, error: Exception) -> ProductConsumerError | CallRefused:
        kind, detail = classify(error), describe(error)
        refusal = refusal_of(error)
        if refusal is not None and refusal.setting is not None:
            return ConfigurationError(refusal.setting, f"{self.label} refuses it: {detail}")
        if kind is Failure.REFUSED or isinstance(error, (DataNotMatchException, ParamError)):
            return CallRefused(detail, RejectMessage("store_rejected", detail))
        if kind is Failure.UNKNOWN:
            return CallRefused(detail, RetryMessage("store_error", detail))
        return StoreUnavailable("milvus", detail)


def new_schema(identity: StoreIdentity, vector_fields: Iterable[str], *, nullable: bool) -> Any:
    """Return the schema of a collection of products.

    Without ``nullable`` the fields that may be unknown are not declared: they become dynamic
    fields, which can be absent.
    """
    schema = MilvusClient.create_schema(
        auto_id=False, enable_dynamic_field=not nullable, description=identity_text(identity)
    )
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
    for name in vector_fields:
        schema.add_field(vector_field(name), DataType.FLOAT_VECTOR, dim=identity.dimension)
    for name in SCALARS:
        if name in NULLABLE and not nullable:
            continue
        options: dict[str, Any] = {"nullable": True} if name in NULLABLE else {}
        if name in TEXT_BYTES:
            schema.add_field(name, DataType.VARCHAR, max_length=TEXT_BYTES[name], **options)
        else:
            kind = DataType.INT64 if name in WHOLE_NUMBERS else DataType.DOUBLE
            schema.add_field(name, kind, **options)
    return schema


def new_index(field: str) -> Any:
    """Return the cosine index of one vector field; the server chooses the index type."""
    index = MilvusClient.prepare_index_params()
    index.add_index(field, index_name=field, index_type="AUTOINDEX", metric_type="COSINE")
    return index


def _why_refused(uri: str) -> str:
    """Return what is wrong with TLS at an address; empty where nothing is."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return why_tls_fails(host, parts.port or _TLS_PORT, grpc_ca_file())
    return why_plain_fails(host, parts.port or _PORT)


def _without_credentials(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
