"""Order messages: which are accepted, how they are cleaned, which reason the others get."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import ConfigurationError, IgnoreMessage, InvalidMessage
from product_consumer.money import money_text
from product_consumer.orders.models import Order, OrderItem
from product_consumer.orders.parser import OrderParser
from tests.support import factories
from tests.support.order_factories import ABSENT, ORDERED_AT, order_body, order_text

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def parse(body: str | bytes, currency: str = "USD", **message: Any) -> Order:
    parser = OrderParser(default_currency=currency, source_timezone="UTC")
    return parser.parse(factories.message(body, **message), NOW)


def parsed(currency: str = "USD", /, **changes: Any) -> Order:
    return parse(order_text(**changes), currency)


def reason(currency: str = "USD", /, **changes: Any) -> str:
    with pytest.raises(InvalidMessage) as rejected:
        parsed(currency, **changes)
    return rejected.value.reason


def item(**changes: Any) -> dict[str, Any]:
    line = {"product_id": "P001", "quantity": 1, "price_per_unit": 10.0}
    return {name: value for name, value in (line | changes).items() if value is not ABSENT}


def test_the_documented_order_becomes_integers_in_utc() -> None:
    order = parsed()

    assert (order.order_id, order.user_id) == ("ORD1234", "U5678")
    assert (order.value_minor, order.currency) == (9999, "USD")
    assert order.items == (OrderItem("P001", 2, 2000), OrderItem("P002", 1, 5999))
    assert order.ordered_at == ORDERED_AT
    assert order.payment_method == "CreditCard"
    assert order.flags == ()


@pytest.mark.parametrize(
    ("currency", "value", "minor"), [("VND", 60_000, 60_000), ("KWD", 1.25, 1250), ("EUR", 5, 500)]
)
def test_amounts_are_in_the_minor_unit_of_their_currency(
    currency: str, value: float, minor: int
) -> None:
    order = parsed(currency=currency, order_value=value, items=[item(price_per_unit=value)])

    assert (order.value_minor, order.currency) == (minor, currency)


def test_cents_in_a_currency_without_them_name_the_setting() -> None:
    with pytest.raises(InvalidMessage, match="DEFAULT_CURRENCY is VND") as rejected:
        parsed("VND")
    assert rejected.value.reason == "price_precision"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"order_id": ABSENT}, "missing:order_id"),
        ({"user_id": ABSENT}, "missing:user_id"),
        ({"user_id": None}, "missing:user_id"),
        ({"items": ABSENT}, "missing:items"),
        ({"items": []}, "missing:items"),
        ({"items": [None]}, "missing:items"),
        ({"items": [item(quantity=0)]}, "missing:items"),
        ({"order_value": ABSENT}, "missing:order_value"),
        ({"order_id": "  "}, "id_invalid"),
        ({"order_id": True}, "id_type"),
        ({"order_id": "x" * 513}, "id_too_long"),
        ({"order_id": "a\nb"}, "id_invalid"),
        ({"user_id": "a:b"}, "id_invalid"),
        ({"user_id": "*"}, "id_invalid"),
        ({"user_id": "U1\nU2"}, "id_invalid"),
        ({"user_id": "U[1]"}, "id_invalid"),
        ({"user_id": "a\x00b"}, "text_invalid"),
        ({"order_value": 100}, "order_total"),
        ({"order_value": 99.98}, "order_total"),
        ({"order_value": -99.99}, "unsupported"),
        ({"order_value": "-99.99"}, "unsupported"),
        ({"items": [item(quantity=-1)]}, "unsupported"),
        ({"items": [item(price_per_unit=-1)]}, "unsupported"),
        ({"order_value": 2**53}, "amount_range"),
        ({"order_value": 1e20}, "amount_range"),
        ({"items": [item(quantity=1_000_000, price_per_unit=10**9)] * 9}, "amount_range"),
        ({"order_value": 99.991}, "price_precision"),
        ({"order_value": True}, "price_type"),
        ({"order_value": [1]}, "price_type"),
        ({"order_value": "much"}, "price_invalid"),
        ({"order_value": "free"}, "price_invalid"),
        ({"currency": "XYZ"}, "currency_unknown"),
        ({"order_value": "€99.99", "currency": "USD"}, "currency_mismatch"),
        ({"items": "P001"}, "items_type"),
        ({"items": ["P001"]}, "items_type"),
        ({"items": [item()] * 1001}, "items_range"),
        ({"items": [item(quantity=1.00005)]}, "quantity_precision"),
        ({"items": [item(quantity=0.0000001)]}, "quantity_precision"),
        ({"items": [item(quantity="0,75")]}, "quantity_type"),
        ({"items": [item(quantity=-0.5)]}, "unsupported"),
        ({"order_value": 15, "items": [item(quantity=1.4)]}, "order_total"),
        ({"order_timestamp": ABSENT, "timestamp": "yesterday"}, "time_invalid"),
        ({"items": [item(quantity=True)]}, "quantity_type"),
        ({"items": [item(quantity="two")]}, "quantity_type"),
        ({"items": [item(quantity=10**7)]}, "quantity_range"),
        ({"items": [item(quantity=ABSENT)]}, "missing:quantity"),
        ({"items": [item(product_id=ABSENT)]}, "missing:product_id"),
        ({"items": [item(price_per_unit=None)]}, "missing:price_per_unit"),
        ({"order_timestamp": "2026-02-30"}, "time_invalid"),
        ({"order_timestamp": "9999-01-01"}, "version_in_future"),
        ({"schema_version": 9}, "unsupported_schema"),
    ],
)
def test_an_invalid_order_gets_its_reason(changes: dict[str, Any], expected: str) -> None:
    assert reason(**changes) == expected


def test_an_order_without_any_currency_is_refused() -> None:
    assert reason("") == "currency_unknown"


def test_a_product_on_the_order_queue_is_the_wrong_kind() -> None:
    with pytest.raises(InvalidMessage) as rejected:
        parse(factories.body_text())
    assert rejected.value.reason == "wrong_kind"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "json_invalid"),
        ('{"order_id": ', "json_invalid"),
        ("[]", "json_not_object"),
        ('{"order_id": "a", "order_id": "b"}', "json_duplicate_key"),
        ('{"order_value": NaN}', "json_nonfinite"),
        ('{"order_value": 1e999}', "number_range"),
        ("[" * 100_000, "json_too_deep"),
        (b"\xff\xfe{\x00", "encoding"),
        (json.dumps({"Records": [{"eventSource": "aws:s3"}]}), "unsupported_envelope"),
    ],
)
def test_bodies_that_are_no_order_get_the_reasons_of_the_envelope(
    body: str | bytes, expected: str
) -> None:
    with pytest.raises(InvalidMessage) as rejected:
        parse(body)
    assert rejected.value.reason == expected


def test_an_order_wrapped_by_sns_is_unwrapped() -> None:
    wrapped = json.dumps({"Type": "Notification", "Message": order_text()})

    assert parse(wrapped).order_id == "ORD1234"


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"user_id": "  U5678 "}, "id_spaces"),
        ({"user_id": "u5678"}, "id_case"),
        ({"user_id": "U 5678"}, "id_spaces"),
        ({"order_id": "ord1234"}, "id_case"),
        ({"payment_method": " credit  card"}, "payment_method_cleaned"),
        ({"payment_method": "CREDIT_CARD"}, "payment_method_cleaned"),
        ({"order_value": "99.99"}, "number_as_text"),
        ({"order_value": "$99.99"}, "number_as_text"),
        ({"items": [*order_body()["items"], None]}, "item_null"),
        ({"items": [*order_body()["items"], item(quantity=0)]}, "item_zero_quantity"),
        ({"unknown": 1}, "unknown_fields"),
    ],
)
def test_a_cleaned_order_is_flagged_and_is_the_same_order(
    changes: dict[str, Any], flag: str
) -> None:
    cleaned, plain = parsed(**changes), parsed()

    assert flag in cleaned.flags
    assert cleaned.payload_hash == plain.payload_hash
    assert (cleaned.user_id, cleaned.items) == (plain.user_id, plain.items)


def test_lines_of_one_product_at_one_price_are_merged() -> None:
    order = parsed(order_value=30, items=[item(), item(quantity="2", product_id=" p001")])

    assert order.items == (OrderItem("P001", 3, 1000),)
    assert "items_merged" in order.flags


def test_the_same_product_at_two_prices_stays_two_lines() -> None:
    order = parsed(order_value=15, items=[item(), item(price_per_unit=5)])

    assert order.items == (OrderItem("P001", 1, 1000), OrderItem("P001", 1, 500))


@pytest.mark.parametrize("order_id", ["3f2504e0-4f89-11d3-9a0c-0305e82c3301", "aGVsbG8", "user-7"])
def test_ids_of_other_forms_keep_their_case(order_id: str) -> None:
    assert parsed(order_id=order_id).order_id == order_id


def test_a_sum_of_doubles_is_rounded_to_the_cent_that_was_meant() -> None:
    items = [item(quantity=3, price_per_unit=19.99), item(product_id="P2", price_per_unit=0.1)]
    order = parsed(order_value=59.97 + 0.1 + 1e-14, items=items)

    assert order.value_minor == 6007


def test_the_order_of_items_does_not_make_other_content() -> None:
    turned = parsed(items=order_body()["items"][::-1])

    assert turned.payload_hash == parsed().payload_hash


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "U1"},
        {"order_value": 100.01, "items": [item(price_per_unit=100.01)]},
        {"currency": "EUR"},
        {"order_timestamp": "2024-12-13T10:00:01Z"},
        {"payment_method": "PayPal"},
        {"shipping_address": "elsewhere"},
    ],
)
def test_other_content_has_another_hash(changes: dict[str, Any]) -> None:
    assert parsed(**changes).payload_hash != parsed().payload_hash


@pytest.mark.parametrize(
    ("quantity", "price", "value"),
    [
        (0.75, 10, 7.5),
        ("0.75", 10, 7.5),
        ("0.750", 10, 7.5),
        (1.255, 20, 25.1),
        (0.333, 10, 3.33),
        (0.1 + 0.2, 10, 3),
        (12.5, 0, 0),
    ],
)
def test_a_weight_counts_where_the_sum_is_exact(quantity: Any, price: Any, value: Any) -> None:
    [line] = [item(quantity=quantity, price_per_unit=price)]
    order = parsed(items=[line], order_value=value)

    assert money_text(order.value_minor, "USD") == f"{value:.2f}"
    assert order.items[0].quantity == round(Decimal(quantity), 6)


def test_a_sum_counts_if_it_is_exact_where_its_lines_are_not() -> None:
    half = {"quantity": 0.5, "price_per_unit": 9.99}
    order = parsed(items=[item(**half), item(product_id="P2", **half)], order_value=9.99)

    assert order.value_minor == 999


def test_weights_that_are_merged_to_a_whole_are_the_same_order() -> None:
    halves, whole = [item(quantity=0.5)] * 2, [item(quantity=1)]
    hashes = {parsed(items=items, order_value=10).payload_hash for items in (halves, whole)}

    assert len(hashes) == 1


def test_the_time_under_the_name_of_products_is_used_and_flagged() -> None:
    order = parsed(order_timestamp=ABSENT, timestamp="2024-12-13T10:00:00Z")

    assert order.ordered_at == datetime(2024, 12, 13, 10, tzinfo=UTC)
    assert "time_from_timestamp" in order.flags
    assert not {"time_from_queue", "unknown_fields"} & set(order.flags)


@pytest.mark.parametrize("blank", [None, "", " "])
def test_a_blank_time_gives_way_to_the_one_under_the_name_of_products(blank: object) -> None:
    order = parsed(order_timestamp=blank, timestamp="2024-12-13T10:00:00Z")

    assert order.ordered_at == datetime(2024, 12, 13, 10, tzinfo=UTC)


def test_of_two_times_that_of_the_order_wins() -> None:
    order = parsed(timestamp="yesterday")

    assert order.ordered_at == parsed().ordered_at
    assert "unknown_fields" in order.flags
    assert "time_from_timestamp" not in order.flags


def test_two_names_of_one_time_are_one_order() -> None:
    at = "2024-12-13T10:00:00Z"
    renamed = parsed(order_timestamp=ABSENT, timestamp=at)

    assert renamed.payload_hash == parsed(order_timestamp=at).payload_hash


def test_an_order_without_a_time_counts_when_the_queue_took_it() -> None:
    order = parsed(order_timestamp=ABSENT)

    assert order.ordered_at == factories.SENT_AT
    assert "time_from_queue" in order.flags


def test_an_order_without_a_time_that_is_sent_again_is_the_same_order() -> None:
    body = order_text(order_timestamp=ABSENT)
    later = factories.SENT_AT + timedelta(days=2)

    assert parse(body).payload_hash == parse(body, sent_at=later).payload_hash


def test_a_redriven_order_keeps_the_day_of_its_first_copy() -> None:
    first = datetime(2026, 10, 1, tzinfo=UTC)
    attributes = {"original_version": str(int(first.timestamp() * 1_000_000))}
    order = parse(order_text(order_timestamp=ABSENT), attributes=attributes)

    assert order.ordered_at == first


def test_a_day_is_the_utc_day() -> None:
    order = parsed(order_timestamp="2024-12-13T23:30:00-05:00")

    assert order.day.isoformat() == "2024-12-14"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"default_currency": "XYZ"}, "DEFAULT_CURRENCY"),
        ({"source_timezone": "Mars/Base"}, "SOURCE_TIMEZONE"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        OrderParser(**({"default_currency": "USD", "source_timezone": "UTC"} | settings))
    assert refused.value.setting == name


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(changes=st.dictionaries(st.sampled_from([*sorted(order_body()), "currency"]), _json))
def test_any_json_is_an_order_or_has_a_reason(changes: dict[str, Any]) -> None:
    check_order_or_reason(json.dumps(order_body(**changes)))


@given(line=st.dictionaries(st.sampled_from(["product_id", "quantity", "price_per_unit"]), _json))
def test_any_item_is_an_order_or_has_a_reason(line: dict[str, Any]) -> None:
    check_order_or_reason(json.dumps(order_body(items=[item(**line)])))


@given(body=st.text() | st.binary())
def test_any_body_is_an_order_or_has_a_reason(body: str | bytes) -> None:
    check_order_or_reason(body)


def check_order_or_reason(body: str | bytes) -> None:
    try:
        order = parse(body)
    except (InvalidMessage, IgnoreMessage) as rejected:
        assert rejected.reason
    else:
        assert order.value_minor == sum(line.quantity * line.unit_minor for line in order.items)
        assert 0 <= order.value_minor <= 2**53
        assert ":" not in order.user_id
