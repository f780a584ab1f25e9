"""The embedded Milvus: one server for all processes that name its path; it ends with the last."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from milvus_lite import MilvusLite
from pymilvus import MilvusClient

from product_consumer.errors import ConfigurationError, RejectMessage, StoreUnavailable
from product_consumer.models import StoreIdentity
from product_consumer.stores.milvus.embedded import EmbeddedMilvus
from product_consumer.stores.milvus.store import MilvusStore
from tests.support.factories import embeddings, product_row
from tests.support.paths import REPOSITORY

DIMENSION = 8
ANY_EMBEDDING = embeddings(1, DIMENSION).image
IDENTITY = StoreIdentity("ledger-1", "tiny", DIMENSION)
USE_AND_WAIT = """
import sys, time
from pathlib import Path
from product_consumer.stores.milvus.embedded import EmbeddedMilvus
print(EmbeddedMilvus(Path(sys.argv[1])).start(), flush=True)
time.sleep(60)
"""


def row(product_id: str = "abc123", **overrides):
    return product_row(id=product_id, embeddings=embeddings(1, DIMENSION), **overrides)


def open_store(path: Path, vector_fields=("text", "image", "combined")) -> MilvusStore:
    return MilvusStore(
        str(path), token=None, alias="products", vector_fields=vector_fields, timeout_seconds=10.0
    )


@contextmanager
def store_at(path: Path) -> Iterator[MilvusStore]:
    with closing(open_store(path)) as store:
        store.setup(IDENTITY)
        yield store


def server_of(path: Path) -> int:
    return int(json.loads(path.with_name(f"{path.name}.address").read_text())["pid"])


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def kill_server(path: Path) -> None:
    pid = server_of(path)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    # Its last thread may outlive its process entry by a moment, and the lock with it.
    with closing(EmbeddedMilvus(path)) as watcher:
        wait_until(lambda: watcher.address() is None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "milvus.db"


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusStore]:
    with store_at(tmp_path_factory.mktemp("shared") / "milvus.db") as store:
        yield store


def test_users_that_start_together_share_one_server(path: Path):
    users = [EmbeddedMilvus(path) for _ in range(6)]
    try:
        with ThreadPoolExecutor(len(users)) as pool:
            addresses = set(pool.map(EmbeddedMilvus.start, users))
    finally:
        for user in users:
            user.close()

    assert len(addresses) == 1


def test_the_server_stays_while_another_user_needs_it(path: Path):
    with closing(EmbeddedMilvus(path)) as stays, closing(EmbeddedMilvus(path)) as leaves:
        address = stays.start()
        leaves.start()
        leaves.close()

        assert stays.address() == address


def test_the_path_can_be_opened_directly_right_after_the_last_user_left(path: Path):
    with closing(EmbeddedMilvus(path)) as user:
        user.start()

    MilvusLite(str(path)).close()


def test_an_independent_reader_finds_the_rows_by_the_alias(path: Path):
    with store_at(path) as store:
        store.write([row("a", price_minor=5, currency="VND"), row("b", rating=None)])

    with closing(MilvusClient(str(path))) as reader:
        reader.load_collection("products")
        rows = reader.query("products", filter="revision == 1", output_fields=["price", "rating"])

    assert {r["id"]: (r["price"], r["rating"]) for r in rows} == {
        "a": (5.0, 4.8),
        "b": (1_299_000.0, None),
    }


def test_a_server_ends_when_its_only_user_is_killed(path: Path):
    command = [sys.executable, "-c", USE_AND_WAIT, str(path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline().startswith("http://127.0.0.1:")
        pid = server_of(path)
        user.kill()

    wait_until(lambda: not is_running(pid))


def test_a_server_outlives_the_signals_that_stop_its_users(path: Path):
    with closing(EmbeddedMilvus(path)) as user:
        address = user.start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(server_of(path), number)
        threading.Event().wait(0.3)

        assert user.address() == address


def test_confirmed_rows_survive_a_killed_server(path: Path):
    with store_at(path) as store:
        store.write([row(f"p{number}", revision=number) for number in range(1, 6)])
        kill_server(path)

        assert store.read_revisions([f"p{n}" for n in range(1, 6)]) == {
            f"p{n}": n for n in range(1, 6)
        }


def test_two_users_find_the_new_server_after_the_old_one_was_killed(path: Path):
    with store_at(path) as first, store_at(path) as second:
        kill_server(path)
        first.write([row("a")])

        assert second.read_revisions(["a"]) == {"a": 1}


def test_the_address_of_a_dead_server_is_not_taken_for_a_living_one(path: Path):
    stale = {"address": "http://127.0.0.1:1", "pid": os.getpid()}
    path.with_name("milvus.db.address").write_text(json.dumps(stale))

    with closing(EmbeddedMilvus(path)) as user:
        assert user.address() is None
        assert user.start() != stale["address"]


def test_a_database_open_in_another_process_is_refused_by_name(path: Path):
    other = MilvusLite(str(path))
    try:
        with (
            closing(EmbeddedMilvus(path)) as user,
            pytest.raises(ConfigurationError, match=r"MILVUS_URI.*open in another process"),
        ):
            user.start()
    finally:
        other.close()


def test_a_file_of_the_old_milvus_lite_is_refused_by_name(path: Path):
    path.write_bytes(b"SQLite format 3")

    with (
        closing(EmbeddedMilvus(path)) as user,
        pytest.raises(ConfigurationError, match=r"MILVUS_URI.*version 2"),
    ):
        user.start()


def test_a_path_that_cannot_be_made_is_refused_by_name(tmp_path: Path):
    (tmp_path / "file").touch()

    with (
        closing(EmbeddedMilvus(tmp_path / "file" / "milvus.db")) as user,
        pytest.raises(ConfigurationError, match=r"MILVUS_URI.*cannot be used"),
    ):
        user.start()


def test_a_server_that_cannot_start_is_an_outage(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("product_consumer.stores.milvus.embedded._LAUNCH", "raise SystemExit(1)")

    with (
        closing(EmbeddedMilvus(path)) as user,
        pytest.raises(StoreUnavailable, match=r"see .*milvus\.db\.log"),
    ):
        user.start()


def test_a_collection_that_was_half_made_when_the_server_died_is_made_again(path: Path):
    (path / "collections" / "products_v1").mkdir(parents=True)

    with store_at(path) as store:
        store.write([row("a")])

        assert store.read_revisions(["a"]) == {"a": 1}


def test_processes_that_set_up_an_empty_store_together_all_succeed(path: Path):
    stores = [open_store(path) for _ in range(4)]
    try:
        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(lambda store: store.setup(IDENTITY), stores))
        stores[0].write([row("a")])

        assert [store.read_revisions(["a"]) for store in stores] == [{"a": 1}] * 4
    finally:
        for store in stores:
            store.close()


@pytest.mark.parametrize("missing", ["alias", "index"])
def test_setup_makes_the_alias_or_index_that_a_killed_setup_left_out(path: Path, missing: str):
    with store_at(path), closing(EmbeddedMilvus(path)) as user:
        with closing(MilvusClient(user.start(), dedicated=True)) as client:
            if missing == "alias":
                client.drop_alias("products")
            else:
                client.release_collection("products")
                client.drop_index("products", "image_embedding")

        with store_at(path) as store:
            store.write([row("a")])
            hits = store.search_vector("image", ANY_EMBEDDING, 1)
            assert [hit.product_id for hit in hits] == ["a"]


def test_the_collection_behind_a_moved_alias_is_used(path: Path):
    with store_at(path) as store, closing(EmbeddedMilvus(path)) as user:
        store.write([row("a")])
        with closing(MilvusClient(user.start(), dedicated=True)) as client:
            client.drop_alias("products")
            client.rename_collection("products_v1", "products_v2")
            client.create_alias("products_v2", "products")

        with store_at(path) as reopened:
            assert reopened.read_revisions(["a"]) == {"a": 1}
            assert "products -> products_v2, 1 rows" in reopened.describe()


def test_another_choice_of_vectors_is_refused_by_name(path: Path):
    with (
        store_at(path),
        closing(open_store(path, ("combined",))) as other,
        pytest.raises(ConfigurationError, match=r"MILVUS_VECTOR_FIELDS.*combined,image,text"),
    ):
        other.setup(IDENTITY)


def test_a_row_that_milvus_refuses_does_not_take_its_batch_along(shared_store: MilvusStore):
    failed = shared_store.write([row("good"), row("bad", reviews_count=2**70), row("fine")])

    assert {key: type(error) for key, error in failed.items()} == {"bad": RejectMessage}
    assert set(shared_store.read_revisions(["good", "bad", "fine"])) == {"good", "fine"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
    | st.sampled_from(
        ["x'] or id not in ['zzz", '" or id != "', "a\\", "a\nb\tc\r", "\x7f", "😀₫", "{id}", "%"]
    )
)
def test_any_id_goes_in_and_only_that_row_goes_out(shared_store: MilvusStore, product_id: str):
    product_id = product_id.encode()[:512].decode(errors="ignore")
    bystander = "bystander"
    shared_store.write([row(bystander), *([row(product_id)] if product_id != bystander else [])])
    assert set(shared_store.read_revisions([product_id])) == {product_id}

    shared_store.write([row(product_id, deleted=True)])

    revisions = shared_store.read_revisions([product_id, bystander])
    assert set(revisions) == {bystander} - {product_id}


def test_the_server_imports_nothing_that_starts_threads_before_it_detaches_itself():
    code = (
        "import sys, product_consumer.stores.milvus.embedded_server\n"
        "print({'numpy', 'grpc', 'pymilvus', 'milvus_lite'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == "set()"
