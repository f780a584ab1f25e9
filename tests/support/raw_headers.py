"""Headers as bytes of AMQP, for what pika itself cannot write and other clients can."""

import struct

import pika

_FLAGS = (
    pika.BasicProperties.FLAG_HEADERS
    | pika.BasicProperties.FLAG_DELIVERY_MODE
    | pika.BasicProperties.FLAG_MESSAGE_ID
)


def field(name: bytes, kind: bytes, value: bytes) -> bytes:
    """One entry of a table: ``kind`` is AMQP's letter of the type."""
    return bytes([len(name)]) + name + kind + value


def double(name: bytes, value: float) -> bytes:
    return field(name, b"d", struct.pack(">d", value))


def moment(name: bytes, seconds: int) -> bytes:
    """A date; ``seconds`` since 1970 in 64 bits, whatever they mean."""
    return field(name, b"T", struct.pack(">Q", seconds))


def nested_tables(name: bytes, depth: int) -> bytes:
    """A table in a table in a table ..."""
    inner = b""
    for _ in range(depth - 1):
        inner = field(b"t", b"F", struct.pack(">I", len(inner)) + inner)
    return field(name, b"F", struct.pack(">I", len(inner)) + inner)


def nested_lists(name: bytes, depth: int) -> bytes:
    """A list in a list in a list ..."""
    inner = b""
    for _ in range(depth - 1):
        inner = b"A" + struct.pack(">I", len(inner)) + inner
    return field(name, b"A", struct.pack(">I", len(inner)) + inner)


class RawProperties(pika.BasicProperties):
    """Properties of a persistent message whose headers are these bytes."""

    def __init__(self, table: bytes, message_id: bytes = b"raw") -> None:
        super().__init__()
        self._table = table
        self._id = message_id

    def encode(self) -> list[bytes]:
        return [
            struct.pack(">H", _FLAGS),
            struct.pack(">I", len(self._table)) + self._table,
            b"\x02",
            bytes([len(self._id)]) + self._id,
        ]
