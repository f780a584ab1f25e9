"""The promises of ``product_consumer/stores/base.py``, tested on every store."""

import re
import socket
import sqlite3
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import elasticsearch
import pytest
from pymilvus import MilvusClient

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.models import VECTOR_FIELDS, ProductRow, StoreIdentity
from product_consumer.stores.elasticsearch.store import ElasticsearchStore
from product_consumer.stores.memory import InMemoryStore
from product_consumer.stores.milvus.embedded import EmbeddedMilvus
from product_consumer.stores.milvus.store import MilvusStore
from product_consumer.stores.probe import PROBE_ID, probe_writing
from product_consumer.stores.sqlite_fts import SqliteSearchStore
from tests.support.factories import embeddings, product_row, unit_embedding
from tests.support.several_processes import in_several_processes, set_up_store

DIMENSION = 16
IDENTITY = StoreIdentity(ledger_id="ledger-1", model_id="model-1", dimension=DIMENSION)
TIMEOUT_SECONDS = 20.0
ODD_IDS = [
    "it's",
    'say "hi"',
    "back\\slash",
    "x'] or id not in ['zzz",
    '" or id != "',
    "'; DROP TABLE products;--",
    "../../etc/passwd",
    "_search",
    "%",
    "*",
    "a b\u00a0c",
    "₫👕",
    "₫" * 170 + "xx",
]


@dataclass(frozen=True)
class Place:
    """Where a store keeps its rows; each call of ``open`` gives another user of the same rows."""

    open: Callable[[], Any]
    refresh: Callable[[], object] = lambda: None
    lose: Callable[[], object] | None = None
    """Removes the table, index or alias behind the back of every user."""
    compares_revisions: bool = True
    spans_processes: bool = True


def memory(request: pytest.FixtureRequest) -> Iterator[Place]:
    store = InMemoryStore()
    yield Place(open=lambda: store, spans_processes=False)


def sqlite_search(request: pytest.FixtureRequest) -> Iterator[Place]:
    path = request.getfixturevalue("tmp_path") / "data" / "search.db"

    def lose() -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE products")

    yield Place(open=partial(SqliteSearchStore, path, timeout_seconds=TIMEOUT_SECONDS), lose=lose)


def elasticsearch_server(request: pytest.FixtureRequest) -> Iterator[Place]:
    url, alias = request.getfixturevalue("elasticsearch_url"), unique_name()
    with elasticsearch.Elasticsearch(url, request_timeout=TIMEOUT_SECONDS) as client:
        yield Place(
            open=partial(
                ElasticsearchStore, url, api_key=None, alias=alias, timeout_seconds=TIMEOUT_SECONDS
            ),
            refresh=lambda: client.indices.refresh(index=alias),
            lose=lambda: client.indices.delete(index=f"{alias}_v1"),
        )
        client.indices.delete(index=f"{alias}_v1", ignore_unavailable=True)


def milvus_embedded(request: pytest.FixtureRequest) -> Iterator[Place]:
    path, alias = request.getfixturevalue("milvus_path"), unique_name()

    def lose() -> None:
        with closing(EmbeddedMilvus(path)) as user:
            drop_alias(user.start(), alias)

    yield Place(open=open_milvus(str(path), alias), lose=lose, compares_revisions=False)


@pytest.fixture(scope="module")
def milvus_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database whose server does not end with each test that uses it."""
    path = tmp_path_factory.mktemp("milvus") / "milvus.db"
    with closing(EmbeddedMilvus(path)) as user:
        user.start()
        yield path


def milvus_server(request: pytest.FixtureRequest) -> Iterator[Place]:
    address, alias = request.getfixturevalue("milvus_server_url"), unique_name()
    yield Place(
        open=open_milvus(address, alias),
        lose=lambda: drop_alias(address, alias),
        compares_revisions=False,
    )


def open_milvus(address: str, alias: str) -> Callable[[], MilvusStore]:
    return partial(
        MilvusStore,
        address,
        token=None,
        alias=alias,
        vector_fields=VECTOR_FIELDS,
        timeout_seconds=TIMEOUT_SECONDS,
    )


def drop_alias(address: str, alias: str) -> None:
    with closing(MilvusClient(address, dedicated=True)) as client:
        client.drop_alias(alias)


def unique_name() -> str:
    return f"test_{uuid.uuid4().hex}"


def on_a_server(make_place: Callable[..., Iterator[Place]]) -> Any:
    marks = [pytest.mark.backend, pytest.mark.timeout(60, func_only=True)]
    return pytest.param(make_place, id=make_place.__name__, marks=marks)


KEYWORD_PLACES = [memory, sqlite_search, on_a_server(elasticsearch_server)]
VECTOR_PLACES = [memory, milvus_embedded, on_a_server(milvus_server)]
ALL_PLACES = [*KEYWORD_PLACES, *VECTOR_PLACES[1:]]

in_keyword_stores = pytest.mark.parametrize("place", KEYWORD_PLACES, indirect=True)
in_vector_stores = pytest.mark.parametrize("place", VECTOR_PLACES, indirect=True)


@pytest.fixture(params=ALL_PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from request.param(request)


@pytest.fixture
def store(place: Place) -> Iterator[Any]:
    with closing(place.open()) as opened:
        opened.setup(IDENTITY)
        yield opened


def row(product_id: str = "abc123", revision: int = 1, **overrides: Any) -> ProductRow:
    seed = overrides.pop("seed", sum(product_id.encode()))
    values = {"embeddings": embeddings(seed, DIMENSION)} | overrides
    return product_row(id=product_id, revision=revision, **values)


def tombstone(product_id: str = "abc123", revision: int = 1) -> ProductRow:
    return row(product_id, revision, deleted=True, name="", image_url="", embeddings=None)


def found_by_name(place: Place, store: Any, text: str) -> set[str]:
    place.refresh()
    return {hit.product_id for hit in store.search_keywords(text, 100)}


def served(place: Place, store: Any) -> list[tuple[str, int]]:
    """Every hit of a search, as (id, revision); a product that is served twice is there twice."""
    place.refresh()
    if hasattr(store, "search_keywords"):
        hits = store.search_keywords("Áo", 100)
    else:
        hits = store.search_vector("image", unit_embedding(0, DIMENSION), 100)
    return sorted((hit.product_id, hit.revision) for hit in hits)


def test_a_written_row_can_be_read_and_found(place, store):
    failures = store.write([row("a", revision=3), row("b", revision=7)])

    assert failures == {}
    assert store.read_revisions(["a", "b", "absent"]) == {"a": 3, "b": 7}
    assert served(place, store) == [("a", 3), ("b", 7)]


def test_nothing_to_write_and_nothing_to_read_are_no_errors(store):
    assert store.write([]) == {}
    assert store.read_revisions([]) == {}


def test_writing_the_same_row_twice_keeps_one(place, store):
    store.write([row()])
    store.write([row()])

    assert served(place, store) == [("abc123", 1)]


def test_a_newer_row_replaces_an_older_one(place, store):
    store.write([row(revision=1)])
    failures = store.write([row(revision=2)])

    assert failures == {}
    assert served(place, store) == [("abc123", 2)]


def test_an_older_row_changes_nothing_where_the_store_can_compare(place, store):
    if not place.compares_revisions:
        pytest.skip("this store takes whatever it is given")
    store.write([row(revision=5, name="Áo mới")])
    failures = store.write([row(revision=4, name="Áo cũ")])

    assert failures == {}
    assert store.read_revisions(["abc123"]) == {"abc123": 5}
    assert found_by_name(place, store, "cu") == set()


def test_a_deleted_product_is_neither_read_nor_found(place, store):
    store.write([row("kept"), row("gone")])
    failures = store.write([tombstone("gone", revision=2)])

    assert failures == {}
    assert store.read_revisions(["kept", "gone"]) == {"kept": 1}
    assert served(place, store) == [("kept", 1)]


def test_deleting_a_product_that_was_never_written_is_no_failure(store):
    assert store.write([tombstone("never")]) == {}
    assert store.read_revisions(["never"]) == {}


def test_a_deleted_product_may_come_back(place, store):
    store.write([row(revision=1)])
    store.write([tombstone(revision=2)])
    store.write([row(revision=3)])

    assert served(place, store) == [("abc123", 3)]


@pytest.mark.parametrize("was_written_before", [True, False])
def test_a_late_older_write_does_not_bring_a_deleted_product_back(place, store, was_written_before):
    if not place.compares_revisions:
        pytest.skip("this store takes whatever it is given")
    if was_written_before:
        store.write([row(revision=1)])
    store.write([tombstone(revision=3)])
    failures = store.write([row(revision=2)])

    assert failures == {}
    assert store.read_revisions(["abc123"]) == {}
    assert served(place, store) == []


def test_a_late_older_delete_does_not_remove_a_newer_row(place, store):
    if not place.compares_revisions:
        pytest.skip("this store takes whatever it is given")
    store.write([row(revision=3)])
    store.write([tombstone(revision=2)])

    assert store.read_revisions(["abc123"]) == {"abc123": 3}


def test_odd_ids_are_read_one_by_one(store):
    ids = [*ODD_IDS, "plain"]
    failures = store.write([row(odd, revision=n) for n, odd in enumerate(ids, start=1)])

    assert failures == {}
    assert store.read_revisions(ids) == {odd: n for n, odd in enumerate(ids, start=1)}
    for n, odd in enumerate(ids, start=1):
        assert store.read_revisions([odd]) == {odd: n}


def test_deleting_an_odd_id_removes_only_that_row(store):
    left = [*ODD_IDS, "plain"]
    store.write([row(odd) for odd in left])

    for odd in ODD_IDS:
        store.write([tombstone(odd, revision=2)])
        left.remove(odd)
        assert store.read_revisions([*ODD_IDS, "plain"]) == dict.fromkeys(left, 1)


def test_an_odd_id_that_is_not_there_reads_nothing(store):
    store.write([row("plain")])

    assert store.read_revisions(ODD_IDS) == {}


def test_unknown_price_rating_and_address_are_no_failure(place, store):
    unknown: dict[str, Any] = dict.fromkeys(["price_minor", "currency", "rating", "reviews_count"])

    assert store.write([row(**unknown, store_url=None)]) == {}
    assert served(place, store) == [("abc123", 1)]


@pytest.mark.parametrize("name", ["Áo 👕 سروال 手机", "‮txet‬", "<b>\"'\\\r\n\t%s${x}", "x" * 5_000])
def test_any_name_can_be_written(store, name):
    assert store.write([row(name=name)]) == {}
    assert store.read_revisions(["abc123"]) == {"abc123": 1}


def test_setup_may_be_repeated_and_keeps_the_rows(place, store):
    store.write([row()])

    with closing(place.open()) as reopened:
        reopened.setup(IDENTITY)
        assert reopened.read_revisions(["abc123"]) == {"abc123": 1}


def test_setup_is_safe_from_several_threads_at_once(place):
    def set_up_and_write(number: int) -> None:
        with closing(place.open()) as store:
            store.setup(IDENTITY)
            assert store.write([row(f"thread-{number}")]) == {}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(set_up_and_write, range(4)))

    with closing(place.open()) as store:
        store.setup(IDENTITY)
        ids = [f"thread-{number}" for number in range(4)]
        assert store.read_revisions(ids) == dict.fromkeys(ids, 1)


def test_setup_is_safe_from_several_processes_at_once(place):
    if not place.spans_processes:
        pytest.skip("this store belongs to one process")
    in_several_processes(set_up_store, place.open, IDENTITY)

    with closing(place.open()) as store:
        store.setup(IDENTITY)
        assert store.write([row()]) == {}


def test_the_rows_of_another_ledger_are_refused(place, store):
    store.write([row()])

    with pytest.raises(ConfigurationError) as refused, closing(place.open()) as other:
        other.setup(StoreIdentity("ledger-2", IDENTITY.model_id, DIMENSION))

    assert refused.value.setting == "DATABASE_URL"


@in_vector_stores
@pytest.mark.parametrize("other", [("model-2", DIMENSION), ("model-1", 2 * DIMENSION)])
def test_the_embeddings_of_another_model_are_refused(place, store, other):
    with pytest.raises(ConfigurationError), closing(place.open()) as second:
        second.setup(StoreIdentity(IDENTITY.ledger_id, *other))


@in_keyword_stores
def test_words_outlive_a_change_of_the_model(place, store):
    if isinstance(store, InMemoryStore):
        pytest.skip("this store holds embeddings too")
    store.write([row()])

    with closing(place.open()) as second:
        second.setup(StoreIdentity(IDENTITY.ledger_id, "model-2", DIMENSION))
        assert second.read_revisions(["abc123"]) == {"abc123": 1}


def test_threads_that_write_their_own_rows_lose_none(store):
    def write_ten(thread: int) -> None:
        for number in range(10):
            assert store.write([row(f"{thread}-{number}")]) == {}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_ten, range(8)))

    ids = [f"{thread}-{number}" for thread in range(8) for number in range(10)]
    assert store.read_revisions(ids) == dict.fromkeys(ids, 1)


def test_threads_that_write_one_row_leave_its_newest_revision(place, store):
    if not place.compares_revisions:
        pytest.skip("this store takes whatever it is given")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.write([row(revision=n)]), [3, 9, 1, 16, 2, 12, 7, 5]))

    assert served(place, store) == [("abc123", 16)]


def test_a_description_is_one_line(store):
    line = store.describe()

    assert line
    assert "\n" not in line


def test_a_description_counts_the_products(place, store):
    store.write([row("a"), row("b")])
    place.refresh()

    assert re.search(r"\b2 (products|rows)\b", store.describe())


def test_a_test_record_is_taken_and_found_by_no_reader(place, store):
    store.write([row()])
    for _ in range(2):
        probe_writing(store, DIMENSION)
    place.refresh()

    assert store.read_revisions([PROBE_ID, row().id]) == {row().id: row().revision}


def test_a_store_whose_rows_are_gone_takes_no_test_record(place, store):
    if place.lose is None:
        pytest.skip("this store cannot lose its rows")
    place.lose()

    with pytest.raises((StoreUnavailable, ConfigurationError)):
        probe_writing(store, DIMENSION)


@in_keyword_stores
@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("Áo thun nam cổ tròn", "ao thun"),
        ("Áo thun nam cổ tròn", "ÁO THUN"),
        ("Áo thun nam cổ tròn", "cổ"),
        ("Đầm dạ hội", "dam"),
        ("Đầm dạ hội", unicodedata.normalize("NFD", "Đầm")),
        (unicodedata.normalize("NFD", "Đầm dạ hội"), "da hoi"),
        ("Crème brûlée", "creme brulee"),
        ("İstanbul Straße", "istanbul"),
        ("Smørrebrød", "smorrebrod"),
        ("红色手机", "手机"),
        ("T-shirt XL", "t shirt"),
        ("Geschirr\u00adspüler weiß", "geschirrspüler"),
        ("Geschirrspüler weiß", "geschirr\u00adspüler"),
        ("Donau\u200bdampf\u2060schiff", "donaudampfschiff"),
        ("کتاب\u200cخانه چوبی", "کتابخانه"),  # noqa: RUF001
        ("کتابخانه چوبی", "کتاب\u200cخانه"),  # noqa: RUF001
        ("\u200fعربي\u200f", "عربي"),
    ],
)
def test_names_are_found_whatever_their_case_and_accents(place, store, name, typed):
    store.write([row("named", name=name), row("other", name="Giày thể thao")])

    assert found_by_name(place, store, typed) == {"named"}


@in_keyword_stores
def test_a_product_is_found_by_its_new_name_only(place, store):
    store.write([row(revision=1, name="Quần jean")])
    store.write([row(revision=2, name="Váy hoa")])

    assert found_by_name(place, store, "quan") == set()
    assert found_by_name(place, store, "vay") == {"abc123"}


@in_keyword_stores
def test_the_product_that_shares_more_words_comes_first(place, store):
    store.write(
        [
            row("one", name="Áo khoác dài"),
            row("both", name="Áo thun trắng"),
            row("none", name="Giày thể thao"),
        ]
    )
    place.refresh()
    hits = store.search_keywords("ao thun", 10)

    assert [hit.product_id for hit in hits] == ["both", "one"]
    assert hits[0].score > hits[1].score


@in_keyword_stores
@pytest.mark.parametrize(
    "text",
    [
        *("", " ", '"', '""', "*", "'", "(", ")", "\\", "\0", "-", "^", ":", "😀", "\ud800"),
        *(
            "nothing*",
            "NEAR(x y, 2)",
            "product_name:x",
            "name:x",
            "x AND",
            "NOT",
            "{x}",
            "[x TO y]",
        ),
        *(
            'x" OR rowid > 0 OR "',
            "'; DROP TABLE products;--",
            "_exists_:id",
            "/.*/",
            "x " * 50_000,
        ),
    ],
)
def test_a_query_is_data_and_never_syntax(place, store, text):
    store.write([row()])

    assert found_by_name(place, store, text) == set()
    assert store.read_revisions(["abc123"]) == {"abc123": 1}


@in_keyword_stores
@pytest.mark.parametrize("text", ['"thun', "thun*", "-thun", "thun AND NOT thun", "(thun", "thun:"])
def test_words_among_operators_are_still_found(place, store, text):
    store.write([row()])

    assert found_by_name(place, store, text) == {"abc123"}


@in_keyword_stores
@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (3, 3), (100, 5), (10**9, 5)])
def test_a_keyword_search_returns_at_most_its_limit(place, store, limit, count):
    store.write([row(str(number)) for number in range(5)])
    place.refresh()

    assert len(store.search_keywords("ao", limit)) == count


@in_vector_stores
@pytest.mark.parametrize("field", VECTOR_FIELDS)
def test_a_product_is_found_first_by_its_own_embedding(place, store, field):
    rows = [row(str(number), revision=number + 1, seed=number) for number in range(6)]
    store.write(rows)
    place.refresh()
    best = store.search_vector(field, embeddings(4, DIMENSION).by_field(field), 3)

    assert len(best) == 3
    assert (best[0].product_id, best[0].revision) == ("4", 5)
    assert best[0].score == pytest.approx(1.0, abs=1e-3)
    assert best[0].score > best[1].score >= best[2].score


@in_vector_stores
def test_a_product_is_found_by_its_new_embedding_only(place, store):
    store.write([row(revision=1, seed=1), row("other", seed=2)])
    store.write([row(revision=2, seed=3)])
    place.refresh()
    hits = store.search_vector("image", embeddings(3, DIMENSION).image, 10)

    assert sorted(hit.product_id for hit in hits) == ["abc123", "other"]
    assert (hits[0].product_id, hits[0].revision) == ("abc123", 2)


@pytest.fixture(params=["refuses", "never_answers"])
def dead_address(request: pytest.FixtureRequest) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "never_answers":
            listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "open_store",
    [
        partial(ElasticsearchStore, api_key=None, alias="test", timeout_seconds=1.0),
        partial(
            MilvusStore, token=None, alias="test", vector_fields=VECTOR_FIELDS, timeout_seconds=1.0
        ),
    ],
    ids=["elasticsearch", "milvus"],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.setup(IDENTITY),
        lambda store: store.describe(),
    ],
    ids=["setup", "describe"],
)
@pytest.mark.timeout(15)
def test_a_server_that_is_gone_or_silent_is_unavailable(open_store, dead_address, ask):
    with pytest.raises(StoreUnavailable), closing(open_store(dead_address)) as store:
        ask(store)
