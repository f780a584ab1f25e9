"""Rows are written until they are current afterwards; refused rows are returned by product."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import pytest

from product_consumer.errors import ProductConsumerError, RejectMessage, StoreUnavailable
from product_consumer.models import ProductRow
from product_consumer.sync.writer import MAX_REWRITES, call_once, newer_rows, write_current
from tests.support.factories import product_row

T = TypeVar("T")


class FakeLedger:
    """The current rows by id, and the ids of each call for rows."""

    def __init__(self, *rows: ProductRow) -> None:
        self.current = {row.id: row for row in rows}
        self.requests: list[list[str]] = []

    def record(self, product_id: str, revision: int) -> None:
        self.current[product_id] = product_row(id=product_id, revision=revision)

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]:
        return {key: self.current[key].revision for key in product_ids if key in self.current}

    def rows(self, product_ids: Collection[str]) -> dict[str, ProductRow]:
        self.requests.append(sorted(product_ids))
        return {key: self.current[key] for key in product_ids}


class FakeStore:
    """Keeps every write; ``before`` runs before each, ``refused`` products fail."""

    def __init__(self, name: str = "milvus") -> None:
        self.name = name
        self.writes: list[dict[str, int]] = []
        self.refused: dict[str, ProductConsumerError] = {}
        self.before: Callable[[], object] = lambda: None

    def write(self, rows: Sequence[ProductRow]) -> Mapping[str, ProductConsumerError]:
        self.before()
        self.writes.append({row.id: row.revision for row in rows})
        return {row.id: self.refused[row.id] for row in rows if row.id in self.refused}


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger(product_row(id="a"), product_row(id="b"))


def write(ledger: FakeLedger, *stores: FakeStore) -> dict[str, ProductConsumerError]:
    return write_current(ledger, stores, dict(ledger.current), call_once)


def test_every_store_gets_every_row_once(ledger: FakeLedger) -> None:
    stores = FakeStore("milvus"), FakeStore("elasticsearch")

    assert write(ledger, *stores) == {}
    assert [store.writes for store in stores] == [[{"a": 1, "b": 1}]] * 2
    assert ledger.requests == []


def test_no_rows_cost_no_call(ledger: FakeLedger) -> None:
    def no_call(_dependency: str, _operation: str, _action: Callable[[], T]) -> T:
        raise AssertionError("no call is needed")

    assert write_current(ledger, [FakeStore()], {}, no_call) == {}


def test_only_overtaken_products_are_written_again(ledger: FakeLedger) -> None:
    store = FakeStore()
    store.before = lambda: ledger.record("b", 2)

    assert write(ledger, store) == {}
    assert store.writes == [{"a": 1, "b": 1}, {"b": 2}]


def test_a_product_that_is_overtaken_again_and_again_is_a_failure_of_the_stores(
    ledger: FakeLedger,
) -> None:
    store = FakeStore()
    store.before = lambda: ledger.record("b", ledger.current["b"].revision + 1)

    failures = write(ledger, store)

    assert list(failures) == ["b"]
    assert isinstance(failures["b"], StoreUnavailable)
    assert len(store.writes) == MAX_REWRITES


def test_a_refused_product_is_returned_and_its_neighbours_are_written(ledger: FakeLedger) -> None:
    refusing, other = FakeStore("milvus"), FakeStore("elasticsearch")
    refusing.refused["a"] = RejectMessage("store_rejected", "too long")

    assert write(ledger, refusing, other) == refusing.refused
    assert other.writes == [{"a": 1, "b": 1}]


def test_a_store_that_is_down_ends_the_writing(ledger: FakeLedger) -> None:
    down, other = FakeStore("milvus"), FakeStore("elasticsearch")

    def refuse() -> None:
        raise StoreUnavailable("milvus", "no answer")

    down.before = refuse
    with pytest.raises(StoreUnavailable, match="no answer"):
        write(ledger, down, other)
    assert other.writes == []


def test_each_dependency_is_called_by_its_name_and_the_kind_of_call(ledger: FakeLedger) -> None:
    called: list[tuple[str, str]] = []

    def call(dependency: str, operation: str, action: Callable[[], T]) -> T:
        called.append((dependency, operation))
        return action()

    write_current(ledger, [FakeStore("milvus")], dict(ledger.current), call)
    assert called == [("milvus", "write"), ("ledger", "read")]


def test_a_row_is_newer_only_with_a_higher_revision(ledger: FakeLedger) -> None:
    written = dict(ledger.current)
    ledger.record("b", 2)
    assert newer_rows(ledger, written, call_once) == {"b": ledger.current["b"]}

    ledger.record("b", 1)
    assert newer_rows(ledger, written, call_once) == {}


def test_a_row_that_the_ledger_no_longer_has_is_not_newer(ledger: FakeLedger) -> None:
    written = dict(ledger.current)
    del ledger.current["a"]

    assert newer_rows(ledger, written, call_once) == {}
