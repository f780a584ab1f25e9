"""Upsert requests for Milvus, packed by column: an embedding is sent as its bytes in memory.

The client itself would turn each number of each vector into a Python object. That takes a tenth of
a millisecond per row of three vectors, during which no other thread of the process can run.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from product_consumer.stores.milvus.pymilvus_import import (
    BytesArray,
    DataType,
    FieldData,
    ParamError,
    UpsertRequest,
)
from product_consumer.vectors import stack

Entity = Mapping[str, Any]

_DYNAMIC_FIELD = "$meta"
_SCALAR_DATA = {
    DataType.VARCHAR: "string_data",
    DataType.INT64: "long_data",
    DataType.DOUBLE: "double_data",
}


class RowPacker:
    """Makes upsert requests for one collection, as ``describe_collection`` describes it.

    Thread-safe.
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._fields: Sequence[Mapping[str, Any]] = description["fields"]
        self._has_dynamic_field = bool(description.get("enable_dynamic_field"))

    def pack(self, collection: str, entities: Sequence[Entity]) -> UpsertRequest:
        """Return the request that the client would make of the same rows, in the same order.

        Vectors are float32 arrays, shape (dimension,). A field that no row has is left out: the
        server fills or refuses it. Raises ``ParamError`` for a value that its field cannot hold;
        the server checks lengths.
        """
        request = UpsertRequest(collection_name=collection, num_rows=len(entities))
        try:
            for field in self._fields:
                if any(field["name"] in entity for entity in entities):
                    request.fields_data.append(_column(field, entities))
        except (TypeError, ValueError, KeyError) as error:
            raise ParamError(message=f"a value does not fit its field: {error}") from error
        if self._has_dynamic_field:
            declared = {field["name"] for field in self._fields}
            request.fields_data.append(_dynamic_column(declared, entities))
        return request


def send(client: Any, request: UpsertRequest, *, timeout_seconds: float) -> None:
    """Upsert; raises what the client's own ``upsert`` does."""
    connection = client._get_connection()
    connection.upsert(
        request.collection_name,
        [],
        timeout=timeout_seconds,
        context=client._generate_call_context(),
        upsert_param=request,
        # Spares the client asking the server for a schema that it will not use.
        schema={"fields": []},
    )


def _column(field: Mapping[str, Any], entities: Sequence[Entity]) -> FieldData:
    column = FieldData(type=field["type"], field_name=field["name"])
    if field["type"] == DataType.FLOAT_VECTOR:
        _fill_vectors(column, [entity[field["name"]] for entity in entities])
    else:
        _fill_scalars(column, field, [entity.get(field["name"]) for entity in entities])
    return column


def _fill_vectors(column: FieldData, vectors: Sequence[Any]) -> None:
    column.vectors.dim = len(vectors[-1])
    packed = stack(vectors).astype("<f4", copy=False).tobytes()
    # On the wire a packed list of floats and a list of bytes are the same. Only the list of bytes
    # is filled without a Python object per number.
    column.vectors.float_vector.MergeFromString(BytesArray(data=[packed]).SerializeToString())


def _fill_scalars(column: FieldData, field: Mapping[str, Any], values: Sequence[Any]) -> None:
    known = [value for value in values if value is not None]
    if field.get("nullable"):
        column.valid_data.extend(value is not None for value in values)
    elif len(known) < len(values):
        raise ValueError(f"{field['name']} is missing")
    getattr(column.scalars, _SCALAR_DATA[field["type"]]).data.extend(known)


def _dynamic_column(declared: set[str], entities: Sequence[Entity]) -> FieldData:
    column = FieldData(type=DataType.JSON, field_name=_DYNAMIC_FIELD, is_dynamic=True)
    for entity in entities:
        more = {name: value for name, value in entity.items() if name not in declared}
        column.scalars.json_data.data.append(json.dumps(more).encode())
    return column
