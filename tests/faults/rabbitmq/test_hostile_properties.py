"""Properties and headers of any type and any size: none ends a connection or loses a message."""

import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest

from tests.faults.rabbitmq.bench import (
    DEAD_LETTER_HEADERS,
    Bench,
    receive,
    reject,
)
from tests.support.rabbitmq_node import RabbitNode
from tests.support.raw_headers import (
    RawProperties,
    double,
    field,
    moment,
    nested_lists,
    nested_tables,
)

pytestmark = pytest.mark.timeout(120, func_only=True)


def properties(**values: Any) -> pika.BasicProperties:
    return pika.BasicProperties(**({"delivery_mode": 2} | values))


def headers(**values: Any) -> pika.BasicProperties:
    return properties(headers=values)


def text(name: bytes, size: int) -> bytes:
    return field(name, b"S", struct.pack(">I", size) + b"a" * size)


DEATH = {"queue": "elsewhere", "reason": "expired", "count": 2**40, "exchange": ""}

HOSTILE: dict[str, pika.BasicProperties] = {
    "nothing": pika.BasicProperties(),
    "100 KB in one header": headers(big="a" * 100_000),
    "130 KB in one header": RawProperties(text(b"big", 130_900)),
    "4,000 headers": headers(**{f"h{number}": "a" * 16 for number in range(4_000)}),
    "bytes": headers(raw=b"\xff\x00\xfe"),
    "text that is not UTF-8": RawProperties(text(b"t", 0) + field(b"u", b"S", b"\0\0\0\2\xff\xfe")),
    "a name that is not UTF-8": RawProperties(text(b"\xff\xfe", 4)),
    "an empty name": RawProperties(text(b"", 4)),
    "a name of 255 bytes": RawProperties(text(b"n" * 255, 4)),
    "one name twice": RawProperties(text(b"x", 1) + text(b"x", 2)),
    "a float": RawProperties(double(b"half", 2.5) + field(b"f", b"f", struct.pack(">f", 0.1))),
    "a float out of range": RawProperties(double(b"huge", 1e308)),
    "the year 33658": RawProperties(moment(b"at", 10**12)),
    "a date out of range": RawProperties(moment(b"at", 2**63)),
    "the last date": RawProperties(moment(b"at", 2**64 - 1)),
    "tables in 400 tables": RawProperties(nested_tables(b"deep", 400)),
    "tables in 2,000 tables": RawProperties(nested_tables(b"deep", 2_000)),
    "lists in 2,000 lists": RawProperties(nested_lists(b"deep", 2_000)),
    "a decimal": RawProperties(field(b"d", b"D", b"\xff" + struct.pack(">i", -(2**31)))),
    "an unsigned number": RawProperties(field(b"n", b"L", struct.pack(">Q", 2**64 - 1))),
    "nulls, dates and numbers": headers(
        none=None, date=datetime(2024, 1, 1, tzinfo=UTC), price=Decimal("1.5"), ok=True, n=2**40
    ),
    "lists and tables": headers(list=[1, "a", None, [b"x", {"k": [2]}]], table={"a": {"b": [1]}}),
    "a forged death": headers(**{"x-death": [DEATH], "x-first-death-reason": "expired"}),
    "a death that is no list": headers(**{"x-death": "forged"}),
    "forged counts": headers(**{"x-acquired-count": -5, "receive_count": "99999999999999999999"}),
    "our headers as tables": headers(reason={"a": 1}, message_id=[1], first_sent=b"\xff"),
    "an expiry": properties(expiration="86400000"),
    "another user": properties(user_id="guest"),
    "a copy to the dead letters": headers(BCC=[]),
    "an id of bytes": properties(message_id=b"\xff\xfe"),
    "an id of 255 bytes": properties(message_id="i" * 255),
    "a timestamp out of range": properties(timestamp=2**63),
    "a timestamp in milliseconds": properties(timestamp=1_700_000_000_000),
    "bytes everywhere": properties(
        **dict.fromkeys(("content_type", "correlation_id", "reply_to", "type", "app_id"), b"\xff")
    ),
    "long texts everywhere": properties(
        **dict.fromkeys(("content_type", "correlation_id", "reply_to", "type"), "t" * 255)
    ),
    "transient": properties(delivery_mode=1),
    "a priority": properties(priority=255),
}


def publish(bench: Bench, body: bytes, sent: pika.BasicProperties) -> None:
    with bench.client.channel() as channel:
        channel.confirm_delivery()
        channel.basic_publish("", bench.name, body, sent, mandatory=True)


def test_whatever_its_properties_a_message_is_put_off_rejected_and_whole(
    any_bench: Bench, rabbitmq_node: RabbitNode
) -> None:
    """The worker is another user than the producer: it may not publish under that name."""
    bench = any_bench
    for name, sent in HOSTILE.items():
        publish(bench, name.encode(), sent)
    with rabbitmq_node.user(configure=".*", write=".*", read=".*") as login:
        queue = bench.open(login=login)
        first = receive(queue, len(HOSTILE))
        # In any order: later versions have quorum queues with priorities.
        assert {message.body for message in first} == HOSTILE.keys()
        assert {message.receive_count for message in first} == {1}
        for message in first:
            queue.retry_later(message, 1)
        second = receive(queue, len(HOSTILE))
        assert {message.body: message.message_id for message in first} == {
            message.body: message.message_id for message in second
        }
        assert {m.body for m in second if m.receive_count != 2} <= {"forged counts"}
        for message in second:
            reject(queue, message)
        bench.wait_until_empty()
        queue.close()

    letters = {letter.body.decode(): letter for letter in bench.dead_letters()}
    assert letters.keys() == HOSTILE.keys()
    for letter in letters.values():
        assert letter.headers.keys() >= DEAD_LETTER_HEADERS
        assert letter.headers["reason"] == "json_invalid"
        assert letter.properties.expiration is None
        assert letter.properties.user_id is None
        assert letter.properties.delivery_mode == 2
    assert letters["bytes"].headers["raw"] == b"\xff\x00\xfe"
    assert letters["lists and tables"].headers["table"] == {"a": {"b": [1]}}


def test_what_a_copy_had_to_leave_out_is_named_in_its_detail(bench: Bench) -> None:
    publish(bench, b"A", HOSTILE["100 KB in one header"])
    queue = bench.open()
    [message] = receive(queue)
    reject(queue, message)

    [letter] = bench.dead_letters()
    assert "header big" in letter.headers["detail"]
    assert "big" not in letter.headers


def test_a_copy_goes_nowhere_but_to_the_dead_letters(bench: Bench) -> None:
    """The producer's own message goes to those that it names; ours must not."""
    other = bench.client.new_queue("other")
    publish(bench, b"A", headers(CC=[other], BCC=[other]))
    sent_by_producer = bench.client.count(other)
    queue = bench.open()
    [message] = receive(queue)
    queue.retry_later(message, 0)
    [again] = receive(queue)
    reject(queue, again)
    bench.wait_until_empty()

    assert bench.client.count(other) == sent_by_producer
    assert len(bench.dead_letters()) == 1


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"a" * 2_000_000], ids=["empty", "bytes", "2M"])
def test_any_body_is_rejected_byte_for_byte(bench: Bench, body: bytes) -> None:
    publish(bench, body, properties(content_encoding="gzip", content_type="application/json"))
    queue = bench.open()
    [message] = receive(queue)
    reject(queue, message)
    bench.wait_until_empty()

    [letter] = bench.dead_letters()
    assert letter.body == body
    assert letter.properties.content_encoding == "gzip"


def test_no_producer_can_send_a_number_that_is_none(bench: Bench) -> None:
    """The server itself refuses such a header, so no worker ever meets one."""
    for value in (math.nan, math.inf):
        with pytest.raises(pika.exceptions.AMQPError):
            publish(bench, b"A", RawProperties(double(b"x", value)))

    assert bench.client.count(bench.name) == 0
