"""Imports pymilvus, which at its import reads variables that have the names of our settings.

It refuses a ``MILVUS_URI`` that is a path, and reads a ``.env`` beside the installation. Every
other module takes its parts from here.
"""

from product_consumer.environment import variables

# An empty value stays: pymilvus sets only what is missing.
_NEUTRAL = {
    "MILVUS_URI": "",
    "MILVUS_DEFAULT_CONNECTION": "",
    "MILVUS_CONN_ALIAS": "default",
    "MILVUS_CONN_TIMEOUT": "10",
    "PYTHON_DOTENV_DISABLED": "1",
}

with variables(_NEUTRAL):
    from pymilvus import DataType, MilvusClient
    from pymilvus.exceptions import DataNotMatchException, MilvusException, ParamError
    from pymilvus.grpc_gen.milvus_pb2 import UpsertRequest
    from pymilvus.grpc_gen.schema_pb2 import BytesArray, FieldData

__all__ = [
    "BytesArray",
    "DataNotMatchException",
    "DataType",
    "FieldData",
    "MilvusClient",
    "MilvusException",
    "ParamError",
    "UpsertRequest",
]
