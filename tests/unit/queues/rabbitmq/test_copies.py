"""Messages and copies of messages, whatever their properties are."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.models import Message
from product_consumer.queues.rabbitmq.amqp.client import Properties
from product_consumer.queues.rabbitmq.amqp.deliveries import Delivery
from product_consumer.queues.rabbitmq.copies import (
    MAX_HEADER_BYTES,
    copy_of,
    to_message,
    with_id,
)

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
A_FRAME_BYTES = 131_064
SECONDS = int(NOW.timestamp())
DELAYED: dict[str, Any] = {"x-death": [{"queue": "q-retry-4", "reason": "expired"}]}

HEADER_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
HEADERS = st.dictionaries(st.text(max_size=300) | st.binary(max_size=5), HEADER_VALUES, max_size=6)


def received(body: bytes = b"{}", *, is_redelivered: bool = False, **properties: Any) -> Message:
    delivery = Delivery("me", 3, 7, body, Properties(**properties), is_redelivered)
    return to_message(delivery, NOW)


def written(properties: Properties) -> Properties:
    """What a client reads of properties that another has written."""
    read = pika.BasicProperties()
    read.decode(b"".join(properties.encode()))
    return read


def test_a_bare_message_has_the_digest_of_its_body_as_its_id() -> None:
    message = received(b"hello")

    assert message.message_id == f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
    assert (message.body, message.receive_count, message.receipt_handle) == ("hello", 1, "me:3:7")


@pytest.mark.parametrize("message_id", ["", "x" * 201, "a\0b", b"\xff", None])
def test_an_id_that_is_none_is_not_used(message_id: Any) -> None:
    assert received(message_id=message_id).message_id.startswith("sha256:")


def test_an_id_of_the_producer_is_kept() -> None:
    assert received(message_id="m-1").message_id == "m-1"


def test_a_body_that_is_not_utf_8_stays_bytes() -> None:
    assert received(b"\xff\xfe").body == b"\xff\xfe"


@pytest.mark.parametrize(
    ("headers", "is_redelivered", "count"),
    [
        ({}, False, 1),
        ({}, True, 2),
        ({"x-delivery-count": 0}, False, 1),
        ({"x-delivery-count": 3}, True, 4),
        ({"x-delivery-count": 1, "x-acquired-count": 4}, True, 5),
        (DELAYED | {"receive_count": "2"}, False, 3),
        (DELAYED | {"receive_count": 2, "x-delivery-count": 1}, True, 4),
        (DELAYED | {"receive_count": "many"}, False, 1),
        (DELAYED | {"receive_count": "9" * 10}, False, 1),
        (DELAYED | {"receive_count": "-3"}, False, 1),
        ({"x-first-death-queue": "q-retry-8", "receive_count": "2"}, False, 3),
        ({"x-delivery-count": "5"}, False, 1),
        ({"x-delivery-count": -5}, True, 2),
    ],
)
def test_deliveries_are_counted_as_each_version_tells_them(
    headers: dict[str, Any], is_redelivered: bool, count: int
) -> None:
    assert received(headers=headers, is_redelivered=is_redelivered).receive_count == count


@pytest.mark.parametrize("is_redelivered", [False, True])
@pytest.mark.parametrize(
    "forged",
    [
        {"receive_count": "500"},
        {"x-delivery-count": 2**62},
        {"x-acquired-count": 5_000_000},
        {"x-death": [{"queue": "products"}], "receive_count": "500"},
        {"x-death": "products-retry-1", "receive_count": "500"},
    ],
)
def test_no_producer_makes_a_message_look_as_if_it_had_failed_often(
    forged: dict[str, Any], is_redelivered: bool
) -> None:
    count = received(headers=forged, is_redelivered=is_redelivered).receive_count

    assert count == 1 + is_redelivered


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"timestamp": SECONDS}, NOW),
        ({"timestamp": SECONDS * 1000}, NOW),
        ({"timestamp": 1, "headers": {"timestamp_in_ms": SECONDS * 1000}}, NOW),
        ({"headers": {"first_sent": "2026-11-27T12:00:00Z"}}, NOW),
    ],
)
def test_the_time_of_sending_is_what_server_or_producer_say(
    properties: dict[str, Any], expected: datetime
) -> None:
    message = received(**properties)

    assert (message.sent_at, message.is_sent_time_known) == (expected, True)


@pytest.mark.parametrize("timestamp", [0, 5, 2**63, 10**10 * 3, -1])
def test_a_timestamp_that_is_no_time_is_not_used(timestamp: int) -> None:
    message = received(timestamp=timestamp)

    assert (message.sent_at, message.is_sent_time_known) == (NOW, False)


def test_headers_that_are_text_are_attributes() -> None:
    headers: dict[str, Any] = {"filename": "a.jpg", "image_size": [4, 5, 3], "empty": ""}
    message = received(headers=headers)

    assert dict(message.attributes) == {"filename": "a.jpg"}
    assert message.envelope.headers["image_size"] == [4, 5, 3]


def test_a_copy_keeps_what_the_producer_wrote() -> None:
    properties: dict[str, Any] = {
        "content_type": "image/png",
        "correlation_id": "c",
        "reply_to": "answers",
        "message_id": "m",
        "type": "t",
        "app_id": "a",
        "priority": 3,
        "timestamp": SECONDS,
    }
    copy = copy_of(received(b"x", headers={"filename": "a"}, **properties), {"reason": "why"})

    read = written(copy.properties)
    assert {name: getattr(read, name) for name in properties} == properties
    assert read.headers == {"filename": "a", "reason": "why"}
    assert (read.delivery_mode, copy.body, copy.note) == (2, b"x", "")


def test_a_copy_never_inherits_what_would_harm_it() -> None:
    harmful = {
        "CC": ["elsewhere"],
        "BCC": "elsewhere",
        "x-death": [{"queue": "q"}],
        "x-first-death-queue": "q",
        "x-last-death-reason": "expired",
        "x-delivery-count": 3,
        "x-acquired-count": 3,
    }
    message = received(headers=harmful, expiration="1000", user_id="somebody")
    copy = copy_of(message, {})

    read = written(copy.properties)
    assert not read.headers
    assert (read.expiration, read.user_id) == (None, None)
    assert copy.left_out == ("expiration", "user_id", "header CC", "header BCC")


def test_what_cannot_be_copied_is_left_out_and_named() -> None:
    headers = {"a float": 2.5, "long": "x" * 20_000, "kept": 1}
    copy = copy_of(received(headers=headers, correlation_id=b"\xff"), {})

    assert written(copy.properties).headers == {"kept": 1}
    assert copy.note == "left out: correlation_id, header a float, header long"


def test_a_copy_for_later_expires() -> None:
    assert copy_of(received(), {}, expiration_ms=1500).properties.expiration == "1500"


def test_a_copy_carries_the_id_that_the_message_is_known_by() -> None:
    message = received(message_id="x" * 300)

    assert with_id(message.envelope, message.message_id).message_id == message.message_id


@given(
    headers=HEADERS,
    text=st.text(max_size=300) | st.binary(max_size=20),
    number=st.integers(0, 2**64),
    body=st.binary(max_size=20),
)
def test_no_property_of_any_kind_stops_a_message_or_its_copy(
    headers: dict[Any, Any], text: Any, number: int, body: bytes
) -> None:
    message = received(
        body, headers=headers, message_id=text, correlation_id=text, reply_to=text, timestamp=number
    )
    copy = copy_of(message, {"reason": "why"})

    encoded = b"".join(copy.properties.encode())
    assert len(encoded) < A_FRAME_BYTES
    assert copy.body == body


@given(st.dictionaries(st.text(max_size=9), st.binary(max_size=9000), max_size=40))
def test_inherited_headers_stay_within_their_room(headers: dict[str, Any]) -> None:
    inherited: Any = copy_of(received(headers=headers), {}).properties.headers

    sizes = (len(name.encode()) + len(value) for name, value in inherited.items())
    assert sum(sizes) <= MAX_HEADER_BYTES


def test_a_time_in_the_future_is_a_day_away_at_most() -> None:
    far = int((datetime.now(UTC) + timedelta(days=3)).timestamp())

    assert not received(timestamp=far).is_sent_time_known
