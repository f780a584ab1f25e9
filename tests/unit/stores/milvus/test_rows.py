"""The rows that go to Milvus, and what its failures mean; no server."""

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from milvus_lite.search.filter import parse_expr

from product_consumer.models import ProductRow, StoreIdentity
from product_consumer.stores.milvus.errors import Failure, classify, describe, refusal_of
from product_consumer.stores.milvus.rows import (
    NULLABLE,
    SCALARS,
    id_filter,
    identity_text,
    parse_identity,
    supports_null,
    to_entities,
)
from tests.support.factories import embeddings, product_row

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VECTORS = ("text", "image", "combined")
UNKNOWN: dict[str, Any] = dict.fromkeys(
    ["store_url", "price_minor", "currency", "rating", "reviews_count"]
)


def to_entity(row: ProductRow, vectors: Sequence[str], declared: Collection[str]) -> dict[str, Any]:
    return to_entities([row], vectors, declared)[row.id]


def test_a_row_has_exactly_the_fields_that_readers_know():
    entity = to_entity(product_row(), VECTORS, declared=SCALARS)

    vectors = {"text_embedding", "image_embedding", "combined_embedding"}
    assert set(entity) == {"id", *SCALARS} | vectors


def test_only_the_chosen_vectors_are_sent():
    entity = to_entity(product_row(), ("combined",), declared=SCALARS)

    assert [name for name in entity if name.endswith("_embedding")] == ["combined_embedding"]


@pytest.mark.parametrize(
    ("minor", "currency", "price"),
    [(1_299_000, "VND", 1_299_000.0), (129_900, "USD", 1299.0), (1, "KWD", 0.001)],
)
def test_a_price_is_in_major_units(minor: int, currency: str, price: float):
    row = product_row(price_minor=minor, currency=currency)

    assert to_entity(row, VECTORS, declared=SCALARS)["price"] == price


def test_a_time_is_in_epoch_milliseconds():
    row = product_row(last_update=datetime(2026, 11, 21, 14, 30, 5, 250_000, tzinfo=UTC))

    assert to_entity(row, VECTORS, declared=SCALARS)["last_update"] == 1_795_271_405_250


def test_an_unknown_value_is_null_where_the_schema_has_its_field():
    entity = to_entity(product_row(**UNKNOWN), VECTORS, declared=SCALARS)

    assert [entity[name] for name in NULLABLE] == [None] * len(NULLABLE)


def test_an_unknown_value_is_left_out_where_its_field_is_dynamic():
    entity = to_entity(product_row(**UNKNOWN), VECTORS, declared=set(SCALARS) - set(NULLABLE))

    assert not set(NULLABLE) & set(entity)


def test_a_row_without_embeddings_is_left_out():
    rows = [product_row(id="bare", embeddings=None), product_row(id="complete")]

    assert list(to_entities(rows, VECTORS, declared=SCALARS)) == ["complete"]


def test_each_row_gets_its_own_vectors():
    rows = [product_row(id=str(seed), embeddings=embeddings(seed)) for seed in range(3)]

    entities = to_entities(rows, VECTORS, declared=SCALARS)

    for row in rows:
        for name in VECTORS:
            expected = row.embeddings.by_field(name) if row.embeddings else None
            assert entities[row.id][f"{name}_embedding"] == pytest.approx(expected)


def test_a_long_name_is_cut_to_what_its_field_holds():
    entity = to_entity(product_row(name="₫" * 30_000), VECTORS, declared=SCALARS)

    assert entity["name"] == "₫" * 21_845


@given(st.lists(ANY_TEXT, min_size=1))
def test_a_filter_names_its_ids_and_nothing_else(ids: list[str]):
    parsed = parse_expr(id_filter(ids))

    assert type(parsed).__name__ == "InOp"
    assert (parsed.field.name, parsed.negate) == ("id", False)
    assert [element.value for element in parsed.values.elements] == ids


@given(ANY_TEXT, ANY_TEXT, st.integers(1, 4096))
def test_an_identity_reads_back(ledger_id: str, model_id: str, dimension: int):
    identity = StoreIdentity(ledger_id, model_id, dimension)

    assert parse_identity(["", identity_text(identity)]) == identity


@pytest.mark.parametrize("text", ["", "a product catalogue", "{}", "[]", "7", '{"ledger_id": 1}'])
def test_another_programs_description_is_no_identity(text: str):
    assert parse_identity([text]) is None


@pytest.mark.parametrize(
    ("version", "nullable"),
    [
        ("v2.3.5-lite", False),
        ("v2.4.15", False),
        ("2.5.0", True),
        ("v3.0.1-dev", True),
        ("milvus_lite-3.2.2", True),
        ("Zilliz Cloud", True),
    ],
)
def test_null_is_used_from_the_server_version_that_knows_it(version: str, nullable: bool):
    assert supports_null(version) is nullable


class _ClientError(Exception):
    """An error as the client raises it: a code and a message."""

    def __init__(self, code: Any, message: str = "", retriable: bool = False) -> None:
        super().__init__(message)
        self.code, self.message, self.retriable = code, message, retriable


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (_ClientError(1100, "the length (600) exceeds max length (512)"), Failure.REFUSED),
        (_ClientError(6, "vector field expected dim 8, got 4"), Failure.REFUSED),
        (_ClientError(8, "rate limit exceeded"), Failure.PASSING),
        (_ClientError(100, "collection not found"), Failure.PASSING),
        (_ClientError(503, "channel not available"), Failure.PASSING),
        (_ClientError(1, "service not ready", retriable=True), Failure.PASSING),
        (_ClientError(1, "[Errno 28] No space left on device"), Failure.PASSING),
        (_ClientError(1, "[upsert_rows] Retry timeout: 10s"), Failure.PASSING),
        (_ClientError(101, "collection not loaded"), Failure.NOT_LOADED),
        (_ClientError(grpc.StatusCode.UNAVAILABLE), Failure.PASSING),
        (SimpleNamespace(code=lambda: grpc.StatusCode.DEADLINE_EXCEEDED), Failure.PASSING),
        (SimpleNamespace(code=lambda: grpc.StatusCode.INVALID_ARGUMENT), Failure.REFUSED),
        (_ClientError(65_535, "something new"), Failure.UNKNOWN),
        (ValueError("something else"), Failure.UNKNOWN),
    ],
    # A lambda's text has its address: not the same in two test processes.
    ids=lambda value: value.code().name if isinstance(value, SimpleNamespace) else str(value),
)
def test_a_failure_is_told_by_its_code(error: Any, failure: Failure):
    if isinstance(error, SimpleNamespace):
        error.__cause__ = None

    assert classify(error) is failure


def test_a_refused_token_names_its_setting():
    refusal = refusal_of(_ClientError(1400, "not authenticated"))

    assert refusal is not None
    assert refusal.setting == "MILVUS_TOKEN"


def test_a_refused_token_is_told_by_the_cause_of_a_failed_connection():
    error = _ClientError(2, "Fail connecting to server")
    error.__cause__ = _ClientError(lambda: grpc.StatusCode.UNAUTHENTICATED)

    refusal = refusal_of(error)
    assert refusal is not None
    assert refusal.setting == "MILVUS_TOKEN"


def test_a_failure_is_described_in_one_short_line():
    assert describe(_ClientError(1, "broken\n  here " + "x" * 1000)).startswith("broken here xxx")
    assert len(describe(_ClientError(1, json.dumps(["x"] * 1000)))) == 300
