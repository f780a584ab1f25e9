"""The ledger on both of its databases: newer and older messages, history, pending checks."""

import itertools
import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, select, text

from product_consumer.database.connection import Database
from product_consumer.errors import ConfigurationError, LedgerUnavailable, RejectMessage
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.rows import LookedUp, ProductChange
from product_consumer.ledger.tables import metadata
from product_consumer.models import ImageSource, Product, StoreIdentity
from tests.support import backends, factories
from tests.support.several_processes import in_several_processes, set_up_ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'products.db'}"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = open_ledger(ledger_url)
    opened.setup()
    opened.claim_model("tiny/test", 768)
    yield opened
    opened.close()


def open_ledger(url: str) -> Ledger:
    return Ledger(Database(url, timeout_seconds=10, connections=12), repair_horizon_seconds=300)


def change(product: Product, seed: int = 0) -> ProductChange:
    return ProductChange(product, None if product.deleted else factories.embeddings(seed))


def numbered(value: int, **overrides: object) -> Product:
    """Version ``value`` of a product, with a price and a time of its own."""
    defaults = {
        "version": factories.version(value),
        "price_minor": 1000 + value,
        "observed_at": factories.OBSERVED_AT + timedelta(minutes=value),
    }
    return factories.product(**(defaults | overrides))


def test_the_flags_are_those_of_the_newest_content(ledger: Ledger) -> None:
    assert ledger.flags("abc123") == ()
    ledger.record([change(numbered(2, flags=("rating_ignored", "timezone_assumed")))])
    ledger.record([change(numbered(1, flags=("brand_ignored",)))])
    assert ledger.flags("abc123") == ("rating_ignored", "timezone_assumed")

    ledger.record([change(factories.tombstone(version=factories.version(3)))])
    assert ledger.flags("abc123") == ("rating_ignored", "timezone_assumed")

    ledger.record([change(numbered(4))])
    assert ledger.flags("abc123") == ()


def test_a_first_message_becomes_revision_one(ledger: Ledger) -> None:
    row = ledger.record([change(factories.product())]).rows["abc123"]

    assert row.revision == 1
    assert row.name == "Áo thun nam cổ tròn"
    assert (row.price_minor, row.currency) == (1_299_000, "VND")
    assert row.last_update == factories.OBSERVED_AT


def test_a_newer_message_raises_the_revision_and_replaces_the_row(ledger: Ledger) -> None:
    ledger.record([change(numbered(1))])
    row = ledger.record([change(numbered(2, name="New name"))]).rows["abc123"]

    assert (row.revision, row.name) == (2, "New name")


def test_an_older_message_gets_the_newest_row_back(ledger: Ledger) -> None:
    ledger.record([change(numbered(2, name="New name"))])
    row = ledger.record([ProductChange(numbered(1), None)]).rows["abc123"]

    assert (row.revision, row.name, row.price_minor) == (1, "New name", 1002)
    assert row.embeddings is not None


def test_an_older_message_still_leaves_its_history_row(ledger: Ledger) -> None:
    ledger.record([change(numbered(2))])
    ledger.record([ProductChange(numbered(1), None)])

    assert [price.price_minor for price in ledger.price_history("abc123")] == [1002, 1001]


def test_the_same_message_twice_leaves_one_row_in_each_history(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.record([change(factories.product()), change(factories.product())])

    assert ledger.revisions(["abc123"]) == {"abc123": 1}
    assert len(ledger.price_history("abc123")) == 1
    assert len(ledger.review_history("abc123")) == 1


def test_an_unknown_price_writes_no_price_row(ledger: Ledger) -> None:
    ledger.record([change(factories.product(price_minor=None, currency=None))])

    assert ledger.price_history("abc123") == []


@pytest.mark.parametrize("missing", ["rating", "reviews_count"])
def test_a_missing_rating_or_review_count_writes_no_review_row(
    ledger: Ledger, missing: str
) -> None:
    ledger.record([change(factories.product(**{missing: None}))])

    assert ledger.review_history("abc123") == []


def test_a_tombstone_deletes_and_keeps_the_payload(ledger: Ledger) -> None:
    ledger.record([change(numbered(1))])
    row = ledger.record([change(factories.tombstone(version=factories.version(2)))]).rows["abc123"]

    assert (row.deleted, row.revision, row.name) == (True, 2, "Áo thun nam cổ tròn")


def test_a_product_stays_deleted_and_gets_the_content_of_an_older_message_that_arrives_late(
    ledger: Ledger,
) -> None:
    ledger.record([change(factories.tombstone(version=factories.version(3)))])
    row = ledger.record([ProductChange(numbered(2, name="Second"), None)]).rows["abc123"]
    assert (row.deleted, row.revision, row.name) == (True, 2, "Second")

    row = ledger.record([ProductChange(numbered(1, name="First"), None)]).rows["abc123"]
    assert (row.deleted, row.revision, row.name) == (True, 2, "Second")


def test_an_older_message_beside_a_tombstone_in_one_batch_counts_too(ledger: Ledger) -> None:
    ledger.record([change(factories.tombstone(version=factories.version(2)))])
    tombstone = change(factories.tombstone(version=factories.version(3)))
    row = ledger.record([ProductChange(numbered(1, name="First"), None), tombstone]).rows["abc123"]

    assert (row.deleted, row.name) == (True, "First")


def test_what_was_cut_off_before_an_older_message_counted_is_completed_by_the_next_delivery(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.record([change(factories.tombstone(version=factories.version(2)))])
    older = ProductChange(numbered(1, name="First"), None)

    def cut_off(*_: object) -> None:
        raise LedgerUnavailable("ledger", "cut off")

    with monkeypatch.context() as patch, pytest.raises(LedgerUnavailable):
        patch.setattr(ledger._recording, "_fill_in_late", cut_off)
        ledger.record([older])
    row = ledger.record([older]).rows["abc123"]

    assert (row.deleted, row.name) == (True, "First")


def test_a_deleted_product_has_no_embeddings_in_any_order(ledger: Ledger) -> None:
    source = ImageSource("ab" * 32, None, None)
    product = ProductChange(numbered(1), factories.embeddings(1), source)
    tombstone = change(factories.tombstone(version=factories.version(2)))

    for first, second in ((product, tombstone), (tombstone, product)):
        with ledger.database.writing() as connection:
            connection.execute(text("DELETE FROM products"))
        ledger.record([first])
        assert ledger.record([second]).rows["abc123"].embeddings is None
        assert ledger.image_embeddings([source.sha256]) == {}


def test_of_two_equal_versions_the_later_time_stays_in_any_order(ledger: Ledger) -> None:
    early, late = (
        numbered(1, observed_at=factories.OBSERVED_AT + timedelta(days=n)) for n in (0, 1)
    )
    for product_id, order in (("a", (early, late)), ("b", (late, early))):
        first, second = (replace(product, id=product_id) for product in order)
        ledger.record([change(first)])
        row = ledger.record([ProductChange(second, None)]).rows[product_id]

        assert row.last_update == late.observed_at
        assert row.embeddings is not None


def test_a_newer_message_brings_a_deleted_product_back(ledger: Ledger) -> None:
    ledger.record([change(factories.tombstone(version=factories.version(2)))])
    row = ledger.record([change(numbered(3))]).rows["abc123"]

    assert (row.deleted, row.revision) == (False, 2)
    assert row.embeddings is not None


def test_equal_versions_are_decided_by_the_payload_hash_in_any_order(ledger: Ledger) -> None:
    low, high = (
        factories.product(name=name, version=factories.version(1, payload_hash=digit * 64))
        for name, digit in (("low", "1"), ("high", "f"))
    )
    ledger.record([change(high)])
    row = ledger.record([change(low)]).rows["abc123"]

    assert row.name == "high"


def test_a_version_number_outranks_any_time(ledger: Ledger) -> None:
    ledger.record([change(numbered(1, version=factories.version(1, rank=2)))])
    dated = numbered(2, version=factories.version(1_700_000_000_000_000, rank=1))

    assert ledger.look_up([dated]) == [LookedUp(is_outdated=True)]


def test_only_equal_or_older_messages_are_outdated(ledger: Ledger) -> None:
    ledger.record([change(numbered(2))])
    older, same, newer = numbered(1), numbered(2), numbered(3)
    stranger = numbered(1, id="other")

    results = ledger.look_up([older, same, newer, stranger])

    assert [result.is_outdated for result in results] == [True, True, False, False]


def test_a_newer_message_s_product_is_looked_up_with_its_image_and_embeddings(
    ledger: Ledger,
) -> None:
    source = ImageSource("ab" * 32, '"tag"', "Sat, 21 Nov 2026 14:30:05 GMT")
    embeddings = factories.embeddings(3)
    ledger.record([ProductChange(numbered(1), embeddings, source)])

    (looked_up,) = ledger.look_up([numbered(2)])

    assert looked_up.image is not None
    assert looked_up.image.source == source
    assert looked_up.image.name == numbered(1).name
    assert np.allclose(looked_up.image.embeddings.image, embeddings.image, atol=1e-3)


def test_an_image_that_another_model_embedded_is_not_known(ledger: Ledger) -> None:
    source = ImageSource("ab" * 32, None, None)
    ledger.record([ProductChange(numbered(1), factories.embeddings(3), source)])
    with ledger.database.writing() as connection:
        connection.execute(text("UPDATE products SET model_id = 'another'"))

    assert ledger.look_up([numbered(2)]) == [LookedUp()]


def test_embeddings_come_back_with_unit_length_and_the_same_direction(ledger: Ledger) -> None:
    embeddings = factories.embeddings(7)
    row = ledger.record([ProductChange(factories.product(), embeddings)]).rows["abc123"]

    assert row.embeddings is not None
    for name in ("text", "image", "combined"):
        stored, original = row.embeddings.by_field(name), embeddings.by_field(name)
        assert abs(float(np.linalg.norm(stored)) - 1) < 1e-6
        assert float(stored @ original) > 0.999999


@pytest.mark.parametrize(
    ("name", "digest", "text_is_new", "image_is_new"),
    [
        pytest.param("mug", "ab", False, False, id="nothing"),
        pytest.param("red mug", "ab", True, False, id="name"),
        pytest.param("mug", "cd", False, True, id="image"),
        pytest.param("red mug", "cd", True, True, id="both"),
    ],
)
def test_only_embeddings_of_a_changed_name_or_image_are_written(
    ledger: Ledger, name: str, digest: str, text_is_new: bool, image_is_new: bool
) -> None:
    old, new = factories.embeddings(1), factories.embeddings(2)
    ledger.record([ProductChange(numbered(1, name="mug"), old, ImageSource("ab" * 32, None, None))])
    ledger.record(
        [ProductChange(numbered(2, name=name), new, ImageSource(digest * 32, None, None))]
    )

    stored = ledger.rows(["abc123"])["abc123"].embeddings
    assert stored is not None
    assert np.allclose(stored.text, (new if text_is_new else old).text, atol=1e-3)
    assert np.allclose(stored.image, (new if image_is_new else old).image, atol=1e-3)


def test_every_write_sets_a_pending_check_even_an_outdated_one(
    ledger: Ledger, ledger_url: str
) -> None:
    ledger.record([change(numbered(2))])
    first = read_check_after(ledger_url)
    ledger.record([ProductChange(numbered(1), None)])

    assert first is not None
    assert read_check_after(ledger_url) > first


def test_a_change_that_the_database_refuses_leaves_its_neighbours_alone(ledger: Ledger) -> None:
    good = factories.product(id="good")
    bad = factories.product(id="bad", price_minor=2**70)
    batch = ledger.record([change(good), change(bad)])

    assert set(batch.rows) == {"good"}
    assert isinstance(batch.failures[1], RejectMessage)


def test_text_that_a_database_cannot_hold_never_passes_for_an_outage(ledger: Ledger) -> None:
    batch = ledger.record([change(factories.product(name="a\0b"))])

    assert all(isinstance(error, RejectMessage) for error in batch.failures.values())


def test_hostile_ids_are_data(ledger: Ledger) -> None:
    ids = ["'; DROP TABLE products;--", 'x\' or "1"="1', "a\\b", "₫" * 100, "%_", "../../etc"]
    ledger.record([change(factories.product(id=product_id)) for product_id in ids])

    assert ledger.revisions(ids) == dict.fromkeys(ids, 1)


def test_set_up_twice_keeps_the_id(ledger: Ledger, ledger_url: str) -> None:
    again = open_ledger(ledger_url)

    assert again.setup() == ledger.meta()["ledger_id"]
    again.close()


def test_a_ledger_of_an_earlier_program_gets_the_column_that_it_lacks(ledger: Ledger) -> None:
    ledger.record([change(numbered(2, id="live", name="Second"))])
    ledger.record([change(factories.tombstone("gone", version=factories.version(3)))])
    with ledger.database.writing() as connection:
        connection.execute(text("ALTER TABLE products DROP COLUMN content_version"))

    ledger.setup()
    ledger.setup()
    ledger.record([change(factories.tombstone("live", version=factories.version(3)))])
    late = [ProductChange(numbered(1, id=key, name="First"), None) for key in ("live", "gone")]
    rows = ledger.record(late).rows

    # How new the content of "live" is, nothing says: it stays.
    assert {key: row.name for key, row in rows.items()} == {"live": "Second", "gone": "First"}


def test_processes_that_set_up_together_agree_on_one_id(ledger_url: str) -> None:
    ids = in_several_processes(set_up_ledger, partial(open_ledger, ledger_url))

    assert len(set(ids)) == 1


def test_a_ledger_without_a_model_has_no_identity_yet(ledger_url: str) -> None:
    with closing(open_ledger(ledger_url)) as ledger:
        ledger_id = ledger.setup()
        with pytest.raises(ConfigurationError, match=r"DATABASE_URL.*ledger is empty"):
            ledger.identity()

        claimed = ledger.claim_model("tiny/test", 768)
        assert ledger.identity() == claimed == StoreIdentity(ledger_id, "tiny/test", 768)


def test_another_model_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ConfigurationError, match=r"OPENCLIP_MODEL.*tiny/test"):
        ledger.claim_model("other/model", 768)


def test_threads_never_lose_a_revision(ledger: Ledger) -> None:
    versions = list(range(1, 41))
    random.Random(5).shuffle(versions)
    batches = [versions[start : start + 4] for start in range(0, 40, 4)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda batch: ledger.record([change(numbered(v)) for v in batch]), batches))

    row = ledger.rows(["abc123"])["abc123"]
    assert row.price_minor == 1040
    assert len(ledger.price_history("abc123")) == 40


def test_threads_that_write_the_same_products_never_wait_for_each_other_in_a_circle(
    ledger: Ledger,
) -> None:
    names = [f"p{number:02}" for number in range(20)]

    def write(turn: int) -> None:
        # Old and new versions in turns, so that most batches are outdated and set checks only.
        version = factories.version(turn % 37)
        shuffled = random.Random(turn).sample(names, len(names))
        ledger.record([change(factories.product(id=name, version=version)) for name in shuffled])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(250)))

    assert set(ledger.revisions(names)) == set(names)


def test_threads_that_record_in_any_order_end_with_the_newest_tombstone_and_content(
    ledger: Ledger,
) -> None:
    ids = [f"p{number}" for number in range(12)]
    changes = [
        change(message)
        for key in ids
        for message in (
            *(numbered(value, id=key, name=f"v{value}") for value in (1, 2, 4)),
            *(factories.tombstone(key, version=factories.version(value)) for value in (3, 5)),
        )
    ] * 3
    random.Random(7).shuffle(changes)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda start: ledger.record(changes[start::45]), range(45)))

    rows = ledger.rows(ids).values()
    assert {(row.deleted, row.name, row.price_minor) for row in rows} == {(True, "v4", 1004)}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_order_and_any_duplication_end_in_the_same_state(
    ledger: Ledger, data: st.DataObject
) -> None:
    product_id = f"p{next(_ids)}"
    messages = [numbered(value, id=product_id, name=f"v{value}") for value in range(1, 5)]
    deleted_at = factories.version(data.draw(st.integers(1, 5)), payload_hash="d" * 64)
    messages.append(factories.tombstone(product_id, version=deleted_at))
    deliveries = data.draw(st.permutations(messages * 2))
    for group in _groups(deliveries, 3):
        ledger.record([change(message) for message in group])

    newest = max(messages, key=lambda message: message.version)
    row = ledger.rows([product_id])[product_id]
    assert row.deleted == newest.deleted
    assert row.last_update == newest.observed_at
    assert row.name == "v4"
    assert len(ledger.price_history(product_id)) == 4


_ids = itertools.count()


def _groups(items: list[Product], size: int) -> list[list[Product]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def test_a_file_that_is_no_database_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "products.db"
    path.write_bytes(b"this is no database " * 100)
    ledger = open_ledger(f"sqlite:///{path}")

    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        ledger.setup()
    ledger.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "products.db"
    ledger = open_ledger(f"sqlite:///{path}")
    ledger.setup()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE ledger_meta SET value = '99' WHERE key = 'schema_version'")
    connection.close()

    with pytest.raises(ConfigurationError, match="schema 99"):
        ledger.setup()
    ledger.close()


@pytest.mark.parametrize("url", ["mysql://h/db", "nonsense", "sqlite://"])
def test_other_databases_are_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        open_ledger(url)


def read_check_after(url: str) -> Any:
    """``check_after`` of abc123, read past the ledger."""
    engine = create_engine(url)
    with engine.connect() as connection:
        result = connection.execute(text("SELECT check_after FROM products WHERE id = 'abc123'"))
        check_after = result.scalar_one()
    engine.dispose()
    return check_after


def test_an_image_embedding_is_read_by_the_digest_of_its_image(ledger: Ledger) -> None:
    digests = [f"{number:064x}" for number in range(3)]
    for number, digest in enumerate([digests[0], digests[0], digests[1]]):
        embeddings = factories.embeddings(int(digest, 16))
        source = ImageSource(digest, None, None)
        ledger.record([ProductChange(factories.product(id=f"p{number}"), embeddings, source)])

    stored = ledger.image_embeddings(digests)

    assert stored.keys() == set(digests[:2])
    for digest in digests[:2]:
        original = factories.embeddings(int(digest, 16)).image
        assert np.allclose(stored[digest], original, atol=1e-3)


def test_an_outdated_message_sets_the_pending_check_of_its_product_again(ledger: Ledger) -> None:
    ledger.record([change(numbered(2))])
    with ledger.database.writing() as connection:
        connection.execute(text("UPDATE products SET check_after = NULL"))

    ledger.record([change(numbered(1))])

    with ledger.database.reading() as connection:
        assert connection.execute(text("SELECT check_after FROM products")).scalar_one() is not None


def test_the_newest_observations_of_several_products_are_read_together(ledger: Ledger) -> None:
    for number in range(5):
        ledger.record([change(numbered(number, id="a")), change(numbered(10 + number, id="b"))])

    prices = ledger.recent_prices(["a", "b", "stranger"], 2)
    reviews = ledger.recent_reviews(["a", "b", "stranger"], 2)

    minor = {key: [price.price_minor for price in history] for key, history in prices.items()}
    assert minor == {"a": [1004, 1003], "b": [1014, 1013]}
    assert {key: len(history) for key, history in reviews.items()} == {"a": 2, "b": 2}
    assert prices["a"] == ledger.price_history("a", 2)
    assert reviews["b"] == ledger.review_history("b", 2)


def test_a_description_says_where_the_ledger_is_and_how_many_products_it_has(
    ledger: Ledger,
) -> None:
    ledger.record([change(numbered(1, id=f"p{number}")) for number in range(3)])
    ledger.record([change(factories.tombstone("p0"))])

    assert ledger.describe() == f"{ledger.database.address}, 2 products"


def test_a_description_does_not_count_a_large_ledger_to_its_end(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("product_consumer.ledger.ledger.MAX_COUNTED", 2)
    ledger.record([change(numbered(1, id=f"p{number}")) for number in range(4)])

    assert ledger.describe() == f"{ledger.database.address}, over 2 rows"


def everything_in(ledger: Ledger) -> dict[str, list[Any]]:
    """All rows of all tables, by table."""
    with ledger.database.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in metadata.sorted_tables
        }


def test_a_probe_leaves_nothing_behind(ledger: Ledger) -> None:
    ledger.record([change(numbered(1))])
    before = everything_in(ledger)
    ledger.probe()

    assert everything_in(ledger) == before


def refuse_every(event: str, ledger: Ledger) -> None:
    """Let the database answer reads and refuse each new or each changed product, as a faulty
    trigger does.
    """
    statements = [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE check_violation USING MESSAGE = 'no'; END $$",
        f"CREATE TRIGGER refusing BEFORE {event} ON products "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    ]
    if ledger.database.is_sqlite:
        statements = [
            f"CREATE TRIGGER refusing BEFORE {event} ON products "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        ]
    with ledger.database.writing() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
def test_a_ledger_that_refuses_every_product_is_down_although_it_can_be_read(
    ledger: Ledger, event: str
) -> None:
    refuse_every(event, ledger)
    assert ledger.revisions(["p1"]) == {}

    with pytest.raises(LedgerUnavailable, match="refuses even a test record"):
        ledger.probe()


def test_a_probe_raises_once_the_products_are_gone(ledger: Ledger) -> None:
    with ledger.database.writing() as connection:
        connection.execute(text("DROP TABLE products"))

    for call in (ledger.probe, ledger.describe):
        with pytest.raises((ConfigurationError, LedgerUnavailable)):
            call()


def test_a_probe_of_a_server_that_is_not_there_is_an_outage() -> None:
    url = f"postgresql://postgres@127.0.0.1:{backends.free_port()}/test"
    with closing(open_ledger(url)) as ledger:
        for call in (ledger.probe, ledger.describe):
            with pytest.raises(LedgerUnavailable):
                call()


def test_a_probe_of_a_damaged_file_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "products.db"
    path.write_bytes(b"this is no database " * 100)
    with closing(open_ledger(f"sqlite:///{path}")) as ledger:
        for call in (ledger.probe, ledger.describe):
            with pytest.raises(ConfigurationError, match="DATABASE_URL"):
                call()


def test_no_more_than_the_limit_is_read_of_a_long_history(postgres_url: str) -> None:
    ledger = open_ledger(postgres_url)
    ledger.setup()
    with ledger.database.writing() as connection:
        connection.execute(text(TWO_THOUSAND_PRICES))
        connection.execute(text("ANALYZE price_history"))
    with ledger.database.reading() as connection:
        query = ledger._newest_prices.compile(connection)
        explained = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", {"ids": ["a", "b", "stranger"], "limit": 5}
        ).scalar_one()
    ledger.close()

    assert max(rows_read(explained[0]["Plan"])) == 10


TWO_THOUSAND_PRICES = """
    INSERT INTO price_history
    SELECT CASE number % 2 WHEN 0 THEN 'a' ELSE 'b' END, to_timestamp(number), number, 'EUR'
    FROM generate_series(1, 2000) AS numbers(number)
"""


def rows_read(plan: dict[str, Any]) -> Iterator[int]:
    """The rows that each step of an explained query returned, over all its loops."""
    yield int(plan["Actual Rows"] * plan["Actual Loops"])
    for step in plan.get("Plans", ()):
        yield from rows_read(step)
