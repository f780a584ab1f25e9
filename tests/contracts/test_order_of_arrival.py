"""The same messages in any order, in batches of any size and more than once end in the same state.

Every permutation is delivered to a product of its own, through the real pipeline; image host and
model are stand-ins. The state is all that a reader may see: the whole row, both histories, and what
the stores hold. A row's ``revision`` counts changes, so it depends on the order; so does the time
of the next check.
"""

import hashlib
import itertools
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pymilvus import MilvusClient
from sqlalchemy import Select, select

from data_management import ProductPipeline
from product_consumer.database.connection import Database
from product_consumer.images.download import FetchedImage, ImageRequest
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.tables import price_history, products, review_history
from product_consumer.messages.fields import payload_hash
from product_consumer.models import VECTOR_FIELDS, Embeddings, Message, Product, ProductRow
from product_consumer.outcomes import Stored
from product_consumer.pipeline.context import new_context
from product_consumer.products.parser import ProductParser
from product_consumer.products.shared_stores import share
from product_consumer.stores.elasticsearch.store import ElasticsearchStore
from product_consumer.stores.memory import InMemoryStore
from product_consumer.stores.milvus.store import MilvusStore
from product_consumer.stores.sqlite_fts import SqliteSearchStore
from product_consumer.vectors import Embedding
from tests.support import factories

DIMENSION = 8
TIMEOUT_SECONDS = 20.0
# Counted or timed by ourselves, or the name of the permutation's own product.
NOT_COMPARED = {"id", "product_id", "number", "revision", "check_after"}
CONTENT = ("name", "image_url", "store_url", "price_minor", "currency", "rating", "reviews_count")

State = tuple[Any, ...]
Contents = dict[str, State]
Place = tuple[Any, Callable[[], Contents]]
"""A store, and what it holds of each product."""


@dataclass(frozen=True)
class Sent:
    """A message of a producer, for any product."""

    fields: tuple[tuple[str, Any], ...]
    sent_after_seconds: int = 0

    def to(self, product_id: str) -> Message:
        """One delivery of the message."""
        body = json.dumps({"id": product_id, **dict(self.fields)})
        sent_at = factories.SENT_AT + timedelta(seconds=self.sent_after_seconds)
        return factories.message(body, sent_at=sent_at)


def product(**overrides: Any) -> Sent:
    body = {
        "name": "mug",
        "price": "5 VND",
        "image_url": "https://cdn.example/a.jpg",
    }
    return Sent(tuple((body | overrides).items()))


def tombstone(**fields: Any) -> Sent:
    return Sent((("deleted", True), *fields.items()))


TIMES = st.sampled_from(["2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z", "2026-11-21T12:00:00Z"])
VERSIONS = st.integers(1, 3)
WHEN = {"version": VERSIONS, "updated_at": TIMES}
PRODUCTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["mug", "red mug", "cup"]),
        "price": st.sampled_from(["5 VND", "7 VND", "$3.10", "N/A", None]),
        "image_url": st.sampled_from(["https://cdn.example/a.jpg", "https://cdn.example/b.jpg"]),
    },
    optional={
        **WHEN,
        "timestamp": TIMES,
        "rating": st.sampled_from([3, "4,5", None]),
        "reviews_count": st.sampled_from([10, "1.520"]),
        "store_url": st.sampled_from(["https://shop.example/1", "https://shop.example/2"]),
        "description": st.sampled_from(["round", "square"]),
        "category": st.just("cups"),
        "brand": st.just("Acme"),
    },
)
DELETED = {"deleted": st.just(True)}
TOMBSTONES = st.one_of(
    st.fixed_dictionaries(DELETED | {"version": VERSIONS}, optional={"updated_at": TIMES}),
    st.fixed_dictionaries(DELETED | {"updated_at": TIMES}, optional={"version": VERSIONS}),
)
MESSAGES = st.builds(
    Sent,
    st.one_of(PRODUCTS, PRODUCTS, TOMBSTONES).map(lambda body: tuple(body.items())),
    st.integers(0, 3),
)


class Images:
    """An image host whose images are their addresses."""

    def fetch_all(self, requests: Sequence[ImageRequest]) -> list[FetchedImage]:
        return [FetchedImage(request.url.encode(), f'"{len(request.url)}"') for request in requests]


class Model:
    """A decoder and a model whose embeddings follow from the name and from the image's bytes."""

    shorter_side_pixels = None

    def decode(self, data: bytes, _shorter_side_pixels: int | None) -> bytes:
        return data

    def tokenise(self, name: str) -> bytes:
        return name.encode()

    def prepare(self, pixels: bytes, tokens: bytes) -> tuple[bytes, bytes]:
        return tokens, pixels

    def embed(self, pairs: Sequence[tuple[bytes, bytes]], *, alone: bool) -> list[Embeddings]:
        return [Embeddings(embedding(name), embedding(image)) for name, image in pairs]

    def embed_text(self, name: str) -> Embedding:
        return embedding(name.encode())


class EveryLease:
    """An in-flight tracker whose leases never end."""

    def is_held(self, _message: Message) -> bool:
        return True


def embedding(data: bytes) -> Embedding:
    seed = int.from_bytes(hashlib.sha256(data).digest()[:4])
    return factories.unit_embedding(seed, DIMENSION)


class World:
    """A pipeline over a ledger and stores, in which every permutation has a product of its own."""

    def __init__(self, url: str, places: Sequence[Place], closing_stack: ExitStack) -> None:
        self.ledger = Ledger(
            Database(url, timeout_seconds=TIMEOUT_SECONDS, connections=4),
            repair_horizon_seconds=300,
        )
        self.ledger.setup()
        identity = self.ledger.claim_model("stand-in", DIMENSION)
        self.stores = [store for store, _ in places]
        self._contents = [read for _, read in places]
        closing_stack.callback(self.ledger.close)
        for store in self.stores:
            store.setup(identity)
            closing_stack.callback(store.close)
        self.parser = ProductParser(default_currency="VND", source_timezone="UTC")
        self._numbers = itertools.count()

    def new_ids(self, count: int) -> list[str]:
        return [f"p{next(self._numbers)}" for _ in range(count)]

    def deliver(self, messages: Sequence[Message]) -> None:
        context = new_context()
        model: Any = Model()
        components: dict[str, Any] = {
            "parser": self.parser,
            "fetcher": Images(),
            "decoder": model,
            "embedder": model,
            "shared": share(self.ledger, self.stores, context),
            "in_flight": EveryLease(),
            "context": context,
        }
        outcomes = ProductPipeline(**components, max_attempts=8).process(messages)
        assert all(isinstance(outcome, Stored) for outcome in outcomes), outcomes

    def states(self, ids: Sequence[str]) -> list[State]:
        """The state of each product, without what the order of arrival may decide."""
        ledger = [self._by_id(table, ids) for table in (products, price_history, review_history)]
        stores = [read() for read in self._contents]
        return [
            (
                *(sorted(rows.get(key, ()), key=repr) for rows in ledger),
                *(contents.get(key) for contents in stores),
            )
            for key in ids
        ]

    def _by_id(self, table: Any, ids: Sequence[str]) -> dict[str, list[State]]:
        key = table.c[0]
        columns = [column for column in table.c if column.name not in NOT_COMPARED]
        query: Select[Any] = select(key, *columns).where(key.in_(ids))
        rows: dict[str, list[State]] = {}
        with self.ledger.database.reading() as connection:
            for product_id, *values in connection.execute(query):
                rows.setdefault(product_id, []).append(tuple(values))
        return rows


def deliveries(order: Sequence[Sent], repeated: int) -> list[Sent]:
    """The messages in this order; the first ``repeated`` come again, then all of them."""
    return [*order[:repeated], *order[:repeated], *order[repeated:], *order]


def check_every_order(world: World, messages: Sequence[Sent], repeated: int, size: int) -> None:
    """Deliver every permutation, ``size`` messages of each product at a time."""
    orders = list(itertools.permutations(messages))
    ids = world.new_ids(len(orders))
    sequences = [deliveries(order, repeated) for order in orders]
    for start in range(0, len(sequences[0]), size):
        batch = [
            sent.to(key)
            for key, sequence in zip(ids, sequences, strict=True)
            for sent in sequence[start : start + size]
        ]
        world.deliver(batch)

    first, *others = world.states(ids)
    for order, state in zip(orders[1:], others, strict=True):
        assert state == first, f"{order} differs from {orders[0]}"
    check_row(world, messages, ids[0])
    check_revisions(world, ids)


def check_row(world: World, messages: Sequence[Sent], product_id: str) -> None:
    """The row has the newest version, and the content of the newest message that has any."""
    parsed = [world.parser.parse(sent.to(product_id)) for sent in messages]
    newest = max(parsed, key=age)
    content = max((item for item in parsed if not item.deleted), key=age, default=newest)
    row = world.ledger.rows([product_id])[product_id]
    assert (row.deleted, row.last_update) == (newest.deleted, newest.observed_at)
    for name in CONTENT:
        assert getattr(row, name) == getattr(content, name)
    assert (row.embeddings is None) == row.deleted
    if row.embeddings is not None:
        assert row.embeddings.text @ embedding(row.name.encode()) > 0.999
        assert row.embeddings.image @ embedding(row.image_url.encode()) > 0.999


def age(item: Product) -> Any:
    return item.version, item.observed_at


def check_revisions(world: World, ids: Sequence[str]) -> None:
    """The stores have the revisions of the ledger, and no deleted product."""
    rows = world.ledger.rows(ids)
    present = {key: row.revision for key, row in rows.items() if not row.deleted}
    for store in world.stores:
        assert store.read_revisions(ids) == present


def in_memory() -> Place:
    store = InMemoryStore()
    return store, lambda: {key: plain(row) for key, row in store._rows.items()}


def plain(row: ProductRow) -> State:
    """All values of a row but its id and revision, in a form that can be compared."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    pair = values.pop("embeddings")
    vectors = () if pair is None else (pair.text.tobytes(), pair.image.tobytes())
    return (*(value for name, value in values.items() if name not in NOT_COMPARED), *vectors)


def in_sqlite(path: Path) -> Place:
    query = (
        "SELECT products.*, words.name FROM products"
        " LEFT JOIN product_words AS words ON products.number = words.rowid"
    )

    def read() -> Contents:
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            return {row["id"]: without_id(dict(row)) for row in connection.execute(query)}

    return SqliteSearchStore(path, timeout_seconds=TIMEOUT_SECONDS), read


def in_elasticsearch(url: str, closing_stack: ExitStack) -> Place:
    client = closing_stack.enter_context(Elasticsearch(url, request_timeout=TIMEOUT_SECONDS))
    alias = f"test_{uuid.uuid4().hex}"

    def read() -> Contents:
        client.indices.refresh(index=alias)
        hits = client.search(index=alias, size=10_000)["hits"]["hits"]
        return {hit["_id"]: without_id(hit["_source"]) for hit in hits}

    store = ElasticsearchStore(url, api_key=None, alias=alias, timeout_seconds=TIMEOUT_SECONDS)
    return store, read


def in_milvus(address: str, closing_stack: ExitStack) -> Place:
    client = closing_stack.enter_context(closing(MilvusClient(address, dedicated=True)))
    alias = f"test_{uuid.uuid4().hex}"

    def read() -> Contents:
        rows = client.query(
            alias,
            filter="revision >= 0",
            output_fields=["*"],
            limit=16_384,
            consistency_level="Strong",
        )
        return {row["id"]: without_id(row) for row in rows}

    store = MilvusStore(
        address,
        token=None,
        alias=alias,
        vector_fields=VECTOR_FIELDS,
        timeout_seconds=TIMEOUT_SECONDS,
    )
    return store, read


def without_id(row: Mapping[str, Any]) -> State:
    return tuple(str(row[name]) for name in sorted(row) if name not in NOT_COMPARED)


@pytest.fixture(autouse=True)
def equal_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the id out of the hash: every permutation, a product of its own, decides ties alike."""
    monkeypatch.setattr(
        "product_consumer.products.parser.payload_hash",
        lambda values: payload_hash({**values, "id": "any"}),
    )


@pytest.fixture
def closing_stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def on_sqlite(tmp_path: Path, closing_stack: ExitStack) -> World:
    places = [in_memory(), in_sqlite(tmp_path / "search.db")]
    return World(f"sqlite:///{tmp_path / 'products.db'}", places, closing_stack)


@pytest.fixture
def on_postgresql(postgres_url: str, closing_stack: ExitStack) -> World:
    return World(postgres_url, [in_memory()], closing_stack)


@pytest.fixture
def on_servers(
    postgres_url: str, elasticsearch_url: str, milvus_server_url: str, closing_stack: ExitStack
) -> World:
    places = [
        in_elasticsearch(elasticsearch_url, closing_stack),
        in_milvus(milvus_server_url, closing_stack),
    ]
    return World(postgres_url, places, closing_stack)


def of_any_messages(examples: int) -> Callable[[Any], Any]:
    """Run a test with messages of two to five, and with those that are told apart least easily."""

    def decorate(test: Any) -> Any:
        test = given(
            messages=st.lists(MESSAGES, min_size=2, max_size=5),
            repeated=st.integers(0, 2),
            size=st.integers(1, 3),
        )(test)
        for messages in SPECIAL:
            test = example(messages=messages, repeated=1, size=1)(test)
        return settings(
            max_examples=examples,
            deadline=None,
            # A failure is an assertion about messages that are few already.
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(test)

    return decorate


SPECIAL = (
    [tombstone(version=2), product(version=1)],
    [tombstone(version=3), product(version=1), product(version=2, name="cup", price=None)],
    [product(version=1), tombstone(version=2), product(version=3, rating=4), tombstone(version=4)],
    [product(version=1), tombstone(version=1), product(version=1, price="7 VND")],
    [product(version=1, updated_at="2026-11-21"), product(version=1, updated_at="2026-11-22")],
    [tombstone(version=1, updated_at="2026-11-21"), tombstone(version=1, updated_at="2026-11-22")],
    [product(), Sent(product().fields, 5), tombstone(updated_at="2026-11-21"), product(version=1)],
)


@of_any_messages(examples=12)
def test_any_order_of_messages_ends_in_one_state(
    on_sqlite: World, messages: list[Sent], repeated: int, size: int
) -> None:
    check_every_order(on_sqlite, messages, repeated, size)


@of_any_messages(examples=4)
def test_any_order_ends_in_one_state_on_postgresql_too(
    on_postgresql: World, messages: list[Sent], repeated: int, size: int
) -> None:
    check_every_order(on_postgresql, messages, repeated, size)


@pytest.mark.soak
@pytest.mark.timeout(900, func_only=True)
@of_any_messages(examples=60)
def test_any_order_ends_in_one_state_on_all_servers(
    on_servers: World, messages: list[Sent], repeated: int, size: int
) -> None:
    check_every_order(on_servers, messages, repeated, size)


@pytest.mark.soak
@pytest.mark.timeout(900)
@of_any_messages(examples=500)
def test_any_order_of_many_messages_ends_in_one_state(
    on_sqlite: World, messages: list[Sent], repeated: int, size: int
) -> None:
    check_every_order(on_sqlite, messages, repeated, size)
