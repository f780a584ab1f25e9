"""Upsert requests packed by column are those that pymilvus makes row by row; no server."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus.client.abstract import CollectionSchema
from pymilvus.client.prepare import Prepare
from pymilvus.exceptions import MilvusException, ParamError
from pymilvus.grpc_gen import milvus_pb2

from product_consumer.models import StoreIdentity
from product_consumer.stores.milvus.client import new_schema
from product_consumer.stores.milvus.rows import field_names, to_entities
from product_consumer.stores.milvus.upsert_requests import RowPacker
from tests.support.factories import embeddings, product_row

VECTORS = ("text", "image", "combined")
DIMENSION = 8
IDENTITY = StoreIdentity("ledger", "model", DIMENSION)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WHOLE_NUMBER = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(
    st.builds(
        product_row,
        id=TEXT,
        name=TEXT,
        store_url=st.none() | TEXT,
        price_minor=st.none() | st.integers(0, 10**12),
        currency=st.none() | st.sampled_from(["VND", "USD", "KWD"]),
        rating=st.none() | st.floats(0, 5),
        reviews_count=st.none() | WHOLE_NUMBER,
        revision=WHOLE_NUMBER,
        embeddings=st.integers(0, 1000).map(lambda seed: embeddings(seed, DIMENSION)),
    ),
    min_size=1,
    max_size=5,
)


def describe(*, nullable: bool) -> dict[str, Any]:
    """A collection of ours as ``describe_collection`` tells it."""
    schema = Prepare.get_schema_from_collection_schema(
        "products", new_schema(IDENTITY, VECTORS, nullable=nullable)
    )
    return CollectionSchema(milvus_pb2.DescribeCollectionResponse(schema=schema)).dict()


def packed_by_the_client(description: Any, entities: Sequence[Any]) -> milvus_pb2.UpsertRequest:
    dynamic = description["enable_dynamic_field"]
    fields = description["fields"]
    return Prepare.row_upsert_param("products", list(entities), "", fields, enable_dynamic=dynamic)


def as_entities(description: Any, rows: Sequence[Any]) -> list[dict[str, Any]]:
    declared = field_names(description)
    return [to_entities([row], VECTORS, declared)[row.id] for row in rows]


@given(ROWS)
def test_rows_with_nulls_are_packed_as_the_client_packs_them(rows: list[Any]):
    description = describe(nullable=True)
    entities = as_entities(description, rows)

    packed = RowPacker(description).pack("products", entities)

    assert packed == packed_by_the_client(description, entities)


@given(ROWS)
def test_rows_with_dynamic_fields_are_packed_as_the_client_packs_them(rows: list[Any]):
    description = describe(nullable=False)
    entities = as_entities(description, rows)

    packed = RowPacker(description).pack("products", entities)

    expected = packed_by_the_client(description, entities)
    assert taken_out_of_json(packed) == taken_out_of_json(expected)
    assert packed == expected


def taken_out_of_json(request: Any) -> list[Any]:
    """Remove the dynamic fields and return them decoded: JSON may be written in several ways."""
    *_, dynamic = request.fields_data
    decoded = [json.loads(data) for data in dynamic.scalars.json_data.data]
    dynamic.scalars.json_data.data[:] = []
    return decoded


def test_a_packed_vector_reads_back_number_by_number():
    description = describe(nullable=True)
    row = small_row()

    packed = RowPacker(description).pack("products", as_entities(description, [row]))

    columns = {column.field_name: column for column in packed.fields_data}
    vector = columns["text_embedding"].vectors
    assert vector.dim == DIMENSION
    assert list(vector.float_vector.data) == row.embeddings.text.tolist()


@pytest.mark.parametrize("wrong", [{"revision": 2**63}, {"rating": "good"}])
def test_a_value_that_its_field_cannot_hold_is_refused_as_by_the_client(wrong: dict[str, Any]):
    description = describe(nullable=True)
    entities = [entity | wrong for entity in as_entities(description, [small_row()])]

    with pytest.raises(MilvusException):
        packed_by_the_client(description, entities)
    with pytest.raises(ParamError):
        RowPacker(description).pack("products", entities)


@pytest.mark.parametrize("field", ["name", "text_embedding"])
def test_a_row_without_a_field_that_must_be_there_is_refused(field: str):
    description = describe(nullable=True)
    complete, incomplete = as_entities(description, [small_row(), small_row()])
    del incomplete[field]

    with pytest.raises(ParamError):
        RowPacker(description).pack("products", [complete, incomplete])


def small_row() -> Any:
    return product_row(embeddings=embeddings(7, DIMENSION))
