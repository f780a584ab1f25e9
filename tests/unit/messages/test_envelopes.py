"""The object inside a body: strict JSON, exact numbers, at most two envelopes."""

import base64
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import IgnoreMessage, InvalidMessage
from product_consumer.messages.envelopes import (
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_EXPONENT,
    MAX_INTEGER_CHARACTERS,
    MAX_NUMBER_CHARACTERS,
    open_body,
    read_json,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGERS = st.integers(min_value=-(10**29) + 1, max_value=10**30 - 1)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
PRODUCTS = st.dictionaries(TEXT.filter(lambda key: key != "detail"), JSON_VALUES, max_size=5).map(
    lambda fields: fields | {"id": "p1", "name": "mug"}
)


def reason_of(body: str | bytes) -> str:
    with pytest.raises(InvalidMessage) as caught:
        open_body(body)
    return caught.value.reason


def sns(content: Any) -> dict[str, Any]:
    return {"Type": "Notification", "MessageId": "m", "Message": json.dumps(content)}


def eventbridge(content: Any) -> dict[str, Any]:
    return {"id": "e", "source": "crawler", "detail-type": "product", "detail": content}


def bare(content: Any) -> dict[str, Any]:
    return {"detail": content}


ENVELOPES = st.lists(st.sampled_from([sns, eventbridge, bare]), max_size=2)


@given(JSON_VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value, ensure_ascii=False)) == value


@given(DECIMALS)
def test_a_fraction_stays_exact(number: Decimal) -> None:
    assert read_json(f"[{number}]") == [number]


@given(st.text(st.characters(exclude_categories=())) | st.text('[]{}",:0123456789.eE+-truefalsn'))
def test_any_text_is_a_value_or_has_a_reason(text: str) -> None:
    try:
        read_json(text)
    except InvalidMessage as error:
        assert error.reason.startswith(("json_", "number_"))
        assert error.detail.isprintable()


@given(PRODUCTS, ENVELOPES)
def test_a_product_is_found_in_up_to_two_envelopes(
    product: dict[str, Any], envelopes: list[Callable[[Any], dict[str, Any]]]
) -> None:
    body: Any = product
    for wrap in envelopes:
        body = wrap(body)

    assert open_body(json.dumps(body)) == product
    assert open_body(json.dumps(body).encode()) == product


@pytest.mark.parametrize("outer", [sns, eventbridge])
def test_a_third_envelope_is_refused(outer: Callable[[Any], dict[str, Any]]) -> None:
    assert reason_of(json.dumps(outer(sns(eventbridge({"id": "p1"}))))) == "envelope_too_deep"


def test_the_detail_of_an_event_may_be_json_text() -> None:
    assert open_body(json.dumps(eventbridge('{"id": "p1"}'))) == {"id": "p1"}


def as_data(content: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "type": "t", "source": "s", "id": "e", "data": content}


def as_base64(content: str) -> dict[str, Any]:
    encoded = base64.b64encode(content.encode()).decode()
    return {"specversion": "1.0", "type": "t", "source": "s", "id": "e", "data_base64": encoded}


@given(PRODUCTS)
def test_json_that_was_written_twice_is_read_in_every_envelope(product: dict[str, Any]) -> None:
    twice = json.dumps(json.dumps(product))

    notification = {"Type": "Notification", "Message": twice}
    for outer in (notification, as_data(twice), as_base64(twice), eventbridge(twice)):
        assert open_body(json.dumps(outer)) == product
    assert open_body(twice) == open_body(twice.encode()) == product


@pytest.mark.parametrize("text", ["\n{}", "\ufeff{}", " {}"])
def test_json_that_was_written_twice_may_begin_with_space(text: str) -> None:
    assert open_body(json.dumps(text)) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps('{"id": "a", "id": "b"}'), "json_duplicate_key"),
        (json.dumps('{"price": NaN}'), "json_nonfinite"),
        (json.dumps('{"id": "p1"'), "json_invalid"),
        (json.dumps(json.dumps('{"id": "p1"}')), "json_not_object"),
        (json.dumps('[{"id": "p1"}]'), "json_not_object"),
        (json.dumps('{"x": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}"), "json_too_deep"),
    ],
)
def test_json_that_was_written_twice_is_judged_as_strictly(text: str, reason: str) -> None:
    assert reason_of(text) == reason
    assert reason_of(json.dumps({"Type": "Notification", "Message": text})) == reason


def test_a_product_with_the_fields_of_an_event_is_none() -> None:
    product = {"id": "p1", "image_url": "https://a.example", "detail-type": "t", "detail": "text"}

    assert open_body(json.dumps(product)) == product


def test_a_product_that_has_a_detail_is_no_envelope() -> None:
    product = {"id": "p1", "detail": {"id": "another"}}

    assert open_body(json.dumps(product)) == product


@pytest.mark.parametrize(
    ("depth", "is_read"), [(1, True), (MAX_DEPTH, True), (MAX_DEPTH + 1, False), (100_000, False)]
)
def test_a_value_may_be_nested_so_deep(depth: int, is_read: bool) -> None:
    text = "[" * depth + "]" * depth
    if is_read:
        read_json(text)
    else:
        with pytest.raises(InvalidMessage, match="json_too_deep"):
            read_json(text)


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("9" * MAX_INTEGER_CHARACTERS, True),
        ("9" * (MAX_INTEGER_CHARACTERS + 1), False),
        ("0." + "3" * (MAX_NUMBER_CHARACTERS - 2), True),
        ("0." + "3" * (MAX_NUMBER_CHARACTERS - 1), False),
        (f"1e{MAX_EXPONENT}", True),
        (f"1e{MAX_EXPONENT + 1}", False),
        (f"1e-{MAX_EXPONENT}", True),
        (f"1e-{MAX_EXPONENT + 1}", False),
        ("1e99999999999999999999", False),
    ],
)
def test_a_number_has_bounds(text: str, is_read: bool) -> None:
    if is_read:
        assert read_json(text) == Decimal(text)
    else:
        with pytest.raises(InvalidMessage, match="number_range"):
            read_json(text)


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_no_json(name: str) -> None:
    with pytest.raises(InvalidMessage, match="json_nonfinite"):
        read_json(f'{{"price": {name}}}')


def test_of_two_equal_keys_neither_is_chosen() -> None:
    with pytest.raises(InvalidMessage, match='json_duplicate_key: "id"'):
        read_json('{"id": "a", "name": "b", "id": "a"}')


def test_the_size_of_a_body_is_counted_in_bytes() -> None:
    frame = '{"id": "p1", "name": ""}'
    whole = frame.replace('""', f'"{"x" * (MAX_BODY_BYTES - len(frame))}"')
    assert open_body(whole)["id"] == "p1"

    assert reason_of(whole + " ") == "too_large"
    assert reason_of(whole.replace("xx", "₫", 1)) == "too_large"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_body_in_another_encoding_is_told_as_such(encoding: str) -> None:
    assert reason_of('{"id": "p1"}'.encode(encoding)) == "encoding"


def test_a_byte_order_mark_is_passed_over() -> None:
    assert open_body(b'\xef\xbb\xbf{"id": "p1"}') == {"id": "p1"}
    assert open_body(json.dumps(sns({"id": "p1"}) | {"Message": '\ufeff{"id": "p1"}'})) == {
        "id": "p1"
    }


@pytest.mark.parametrize(
    "event",
    [
        {"Records": []},
        {"s3BucketName": "bucket", "s3Key": "key"},
        {"S3Payload": {"Id": "i", "Bucket": "b", "Key": "k"}},
        {"id": "e", "source": "shop", "detail-type": "t"},
        {"id": "e", "source": "shop", "detail-type": "t", "detail": [{}]},
        {"id": "e", "source": "shop", "detail-type": "t", "detail": "text"},
        {"id": "e", "source": "aws.s3", "detail-type": "Object Created", "detail": {}},
        {"Type": "SubscriptionConfirmation", "Message": "{}"},
        {"Type": "UnsubscribeConfirmation", "Message": "{}"},
        ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "b"}],
        ["com.amazon.sqs.javamessaging.MessageS3Pointer", {"s3BucketName": "b", "s3Key": "k"}],
        sns(["com.amazon.sqs.javamessaging.MessageS3Pointer", {"s3BucketName": "b"}]),
    ],
)
def test_what_points_elsewhere_is_an_unsupported_envelope(event: Any) -> None:
    assert reason_of(json.dumps(event)) == "unsupported_envelope"


@pytest.mark.parametrize("wrap", [lambda event: event, sns], ids=["plain", "sns"])
def test_the_test_event_of_s3_carries_nothing(wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(IgnoreMessage, match="s3_test_event"):
        open_body(json.dumps(wrap({"Event": "s3:TestEvent"})))


@pytest.mark.parametrize(
    "body", ["[]", '"text"', "1", "null", "[[1]]", '["S3Pointers", {}]', "[{}]"]
)
def test_only_an_object_carries_a_product(body: str) -> None:
    assert reason_of(body) == "json_not_object"
