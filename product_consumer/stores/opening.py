"""Opens the stores that the settings name; only their clients are imported."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass

from product_consumer.errors import StoreUnavailable
from product_consumer.models import StoreIdentity
from product_consumer.settings import Settings
from product_consumer.stores.base import KeywordStore, ProductStore, VectorStore

_REACHING_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of a stream: one finds products by embedding, one by words. Thread-safe."""

    vectors: VectorStore
    keywords: KeywordStore

    @property
    def all(self) -> tuple[ProductStore, ...]:
        """Every store, in the order in which they are written."""
        return (self.vectors, self.keywords)

    def setup(self, identity: StoreIdentity) -> None:
        """Set up every store; raises as ``ProductStore.setup`` does."""
        for store in self.all:
            store.setup(identity)

    def close(self) -> None:
        """Close every store, also when closing one of them fails."""
        with ExitStack() as closing:
            for store in self.all:
                closing.callback(store.close)


def open_stores(settings: Settings) -> Stores:
    """Build the stores without connecting to them: ``Stores.setup`` does.

    Milvus, embedded or a server, finds by embedding. Elasticsearch finds by words, or SQLite's
    full-text search in ``DATA_DIR`` where ``ELASTICSEARCH_URL`` is not set. Raises
    ``ConfigurationError`` for an address that cannot be one.
    """
    keywords = _open_keywords(settings)
    return Stores(vectors=_open_vectors(settings), keywords=keywords)


def reach_servers(settings: Settings) -> None:
    """Ask each server for its version, before a start loads the model.

    Raises ``ConfigurationError`` for what no wait can mend. A server that does not answer now is
    left to ``Stores.setup``.
    """
    timeout_seconds = min(settings.store_timeout_seconds, _REACHING_SECONDS)
    with suppress(StoreUnavailable):
        _reach_milvus(settings, timeout_seconds)
    if settings.elasticsearch_url is not None:
        from product_consumer.stores.elasticsearch.reaching import reach

        url, key = settings.elasticsearch_url, settings.elasticsearch_api_key
        with suppress(StoreUnavailable):
            reach(
                url.get_secret_value(),
                api_key=key.get_secret_value() if key else None,
                timeout_seconds=timeout_seconds,
            )


def _reach_milvus(settings: Settings, timeout_seconds: float) -> None:
    if "://" not in settings.milvus_address:
        return
    from product_consumer.stores.milvus.client import MilvusConnection

    token = settings.milvus_token
    connection = MilvusConnection(
        settings.milvus_address,
        token=token.get_secret_value() if token else None,
        timeout_seconds=timeout_seconds,
    )
    try:
        connection.call(lambda client: None)
    finally:
        connection.close()


def _open_vectors(settings: Settings) -> VectorStore:
    from product_consumer.stores.milvus.store import MilvusStore

    token = settings.milvus_token
    return MilvusStore(
        settings.milvus_address,
        token=token.get_secret_value() if token else None,
        alias=settings.milvus_collection,
        vector_fields=settings.milvus_vector_fields,
        timeout_seconds=settings.store_timeout_seconds,
    )


def _open_keywords(settings: Settings) -> KeywordStore:
    timeout_seconds = settings.store_timeout_seconds
    if settings.elasticsearch_url is None:
        from product_consumer.stores.sqlite_fts import SqliteSearchStore

        path = settings.data_dir.resolve() / "search.db"
        return SqliteSearchStore(path, timeout_seconds=timeout_seconds)

    from product_consumer.stores.elasticsearch.store import ElasticsearchStore

    api_key = settings.elasticsearch_api_key
    return ElasticsearchStore(
        settings.elasticsearch_url.get_secret_value(),
        api_key=api_key.get_secret_value() if api_key else None,
        alias=settings.elasticsearch_index,
        timeout_seconds=timeout_seconds,
    )
