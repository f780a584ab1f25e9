"""CloudEvents in their JSON format: what is unwrapped, what is refused and what is none."""

import base64
import json
from typing import Any

import pytest

from product_consumer.errors import InvalidMessage
from product_consumer.messages.envelopes import open_body

PRODUCT = {"id": "p1", "name": "mug", "price": 5, "image_url": "https://cdn.example/1.jpg"}
ORDER = {"order_id": "ORD1", "user_id": "U1", "items": [{"product_id": "P1"}], "order_value": 5}
ATTRIBUTES = {"specversion": "1.0", "type": "shop.changed", "source": "/shop", "id": "e1"}


def event(**fields: Any) -> dict[str, Any]:
    return ATTRIBUTES | fields


def encoded(content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def rejection_of(body: object) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        open_body(json.dumps(body))
    return caught.value


@pytest.mark.parametrize("content", [PRODUCT, ORDER], ids=["product", "order"])
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda content: event(data=content), id="object"),
        pytest.param(lambda content: event(data=json.dumps(content)), id="text"),
        pytest.param(lambda content: event(data=f"\ufeff {json.dumps(content)}"), id="mark"),
        pytest.param(lambda content: event(data_base64=encoded(content)), id="base64"),
        pytest.param(lambda content: event(data=None, data_base64=encoded(content)), id="null"),
        pytest.param(
            lambda content: event(
                specversion="0.3", datacontentencoding="base64", data=encoded(content)
            ),
            id="0.3",
        ),
        pytest.param(
            lambda content: event(
                data=content, datacontenttype="application/json", time="2026-11-21T14:30:05Z"
            ),
            id="all attributes",
        ),
        pytest.param(lambda content: event(data=content, knativeerrorcode="500"), id="extension"),
        pytest.param(lambda content: {"specversion": "1.0", "data": content}, id="no id"),
        pytest.param(lambda content: [event(data=content)], id="a batch of one"),
        pytest.param(
            lambda content: {"Type": "Notification", "Message": json.dumps(event(data=content))},
            id="in SNS",
        ),
        pytest.param(
            lambda content: {"id": "e", "detail-type": "t", "detail": event(data=content)},
            id="in EventBridge",
        ),
        pytest.param(
            lambda content: event(data={"id": "e", "detail-type": "t", "detail": content}),
            id="around EventBridge",
        ),
    ],
)
def test_the_content_of_an_event_is_unwrapped(wrap: Any, content: dict[str, Any]) -> None:
    assert open_body(json.dumps(wrap(content))) == content


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (event(), "without data"),
        (event(data=None), "without data"),
        (event(dataref="s3://b/k"), 'dataref names "s3://b/k"'),
        (event(data=PRODUCT, data_base64=encoded(PRODUCT)), "with both data and data_base64"),
        (event(data=[PRODUCT]), "no JSON object"),
        (event(data=5), "no JSON object"),
        (event(data="<order/>", datacontenttype="application/xml"), "application/xml"),
        (event(data_base64="%%%"), "base64 cannot be decoded"),
        (event(data_base64={}), "base64 cannot be decoded"),
        (event(data_base64=base64.b64encode(b"\x08\x01").decode()), "no JSON object"),
        (event(specversion="2.0", data=PRODUCT), 'of version "2.0"'),
        ([event(data=PRODUCT), event(data=PRODUCT)], "a batch of 2 CloudEvents"),
    ],
)
def test_an_event_without_one_reading_is_an_unsupported_envelope(body: object, told: str) -> None:
    rejection = rejection_of(body)
    assert rejection.reason == "unsupported_envelope"
    assert told in rejection.detail


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (event(data='{"id": "p1"'), "json_invalid"),
        (event(data_base64=base64.b64encode(b"\xff{}").decode()), "encoding"),
        (event(data=event(data=event(data=PRODUCT))), "envelope_too_deep"),
        ([PRODUCT], "json_not_object"),
        ([event(data=PRODUCT), 1], "json_not_object"),
    ],
)
def test_other_faults_of_an_event_keep_their_reasons(body: object, reason: str) -> None:
    assert rejection_of(body).reason == reason


@pytest.mark.parametrize(
    "message",
    [
        PRODUCT | {"specversion": "1.0", "data": {"id": "another"}},
        PRODUCT | ATTRIBUTES | {"id": "p1", "data": {"id": "another"}},
        ORDER | ATTRIBUTES | {"data": ORDER},
        {"id": "p1", "deleted": True, "version": 3, "specversion": "1.0", "data": {"id": "x"}},
        PRODUCT | {"data": {"id": "another"}},
        {"id": "p1", "name": "mug", "specversion": "1.0", "data": {"id": "another"}},
        {"id": "p1", "specversion": 1, "type": "t", "source": "s", "data": {"id": "another"}},
    ],
)
def test_a_message_with_fields_of_the_same_names_is_no_event(message: dict[str, Any]) -> None:
    assert open_body(json.dumps(message)) == message
