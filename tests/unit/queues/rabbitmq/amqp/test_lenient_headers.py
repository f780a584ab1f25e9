"""Headers that pika itself cannot read."""

import math
import struct
from typing import Any

import pika.data
import pytest

from product_consumer.queues.rabbitmq.amqp import client  # noqa: F401
from product_consumer.queues.rabbitmq.amqp.lenient_headers import UNREADABLE


def table(*fields: tuple[bytes, bytes]) -> bytes:
    """Return a table of AMQP: each field a name, and a value with its type before it."""
    content = b"".join(bytes([len(name)]) + name + value for name, value in fields)
    return struct.pack(">I", len(content)) + content


def read(encoded: bytes) -> Any:
    value, offset = pika.data.decode_table(encoded + b"rest", 0)
    assert offset == len(encoded)
    return value


@pytest.mark.parametrize("number", [2.5, math.inf, -math.inf])
def test_floats_stay_floats(number: float) -> None:
    double, single = b"d" + struct.pack(">d", number), b"f" + struct.pack(">f", number)

    assert read(table((b"d", double), (b"f", single))) == {"d": number, "f": number}


def test_a_number_that_is_none_is_read() -> None:
    assert math.isnan(read(table((b"n", b"d" + struct.pack(">d", math.nan))))["n"])


@pytest.mark.parametrize("seconds", [10**12, 2**63, 2**64 - 1])
def test_a_time_that_no_calendar_has_is_a_number(seconds: int) -> None:
    assert read(table((b"t", b"T" + struct.pack(">Q", seconds)))) == {"t": seconds}


def test_a_value_of_an_unknown_type_makes_its_table_unreadable() -> None:
    assert list(read(table((b"a", b"?1234")))) == [UNREADABLE]


def test_tables_nested_deeper_than_the_stack_are_unreadable_and_do_no_harm() -> None:
    nested = table()
    for _ in range(5000):
        nested = table((b"", b"F" + nested))

    assert isinstance(read(nested), dict)
