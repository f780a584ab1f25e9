"""Rules that the messages of every stream share."""

import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.messages.fields import (
    first_sent_at,
    missing,
    none_if_blank,
    original_sent_at,
    payload_hash,
    read_id,
)
from product_consumer.models import MAX_ID_BYTES
from tests.support.factories import SENT_AT, message

FIRST_SENT_AT = datetime(2026, 11, 1, 7, tzinfo=UTC)
ORIGINAL_VERSION = str(int(FIRST_SENT_AT.timestamp()) * 1_000_000)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("abc", "abc"),
        (" abc\n", "abc"),
        (7, "7"),
        (Decimal("7.00"), "7"),
        ("e\u0301", "é"),
        ("a\u3000b", "a\u3000b"),
    ],
)
def test_an_id_is_text_in_nfc_without_outer_spaces(raw: object, text: str):
    assert read_id(raw, "id") == text


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "missing:user_id"),
        (True, "id_type"),
        (1.5, "id_type"),
        (Decimal("1.5"), "id_type"),
        (Decimal("1e300"), "id_type"),
        (Decimal("1e-300"), "id_type"),
        ({}, "id_type"),
        (" ", "id_invalid"),
        ("a\nb", "id_invalid"),
        ("a\u2028b", "id_invalid"),
        ("a\x00b", "text_invalid"),
        ("x" * (MAX_ID_BYTES + 1), "id_too_long"),
        ("e\u0301" * 10_000, "id_too_long"),
    ],
)
def test_a_value_that_cannot_be_an_id_has_a_reason_that_names_the_field(raw: object, reason: str):
    with pytest.raises(InvalidMessage, match="user_id") as caught:
        read_id(raw, "user_id")

    assert caught.value.reason == reason


@given(st.integers(-(2**53), 2**53))
def test_an_integer_and_its_double_are_the_same_id(number: int):
    assert read_id(Decimal(f"{number}.0"), "id") == read_id(number, "id")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=600))
def test_any_text_is_an_id_that_stores_can_hold_or_has_a_reason(text: str):
    try:
        product_id = read_id(text, "id")
    except InvalidMessage as error:
        assert error.reason in ("id_invalid", "id_too_long")
    else:
        assert 1 <= len(product_id.encode()) <= MAX_ID_BYTES
        assert unicodedata.is_normalized("NFC", product_id)


def test_a_missing_field_is_named_in_its_reason():
    assert (missing("price").reason, missing("price").detail) == (
        "missing:price",
        "price is required and must not be empty",
    )


@pytest.mark.parametrize(
    ("raw", "kept"), [(None, None), ("", None), (" \t", None), ("USD", "USD"), (0, 0)]
)
def test_blank_text_is_none(raw: object, kept: object):
    assert none_if_blank(raw) == kept


@pytest.mark.parametrize(
    ("fields", "digest"),
    [
        (
            {"id": "abc123", "name": "Áo", "price_minor": 1299000, "rating": 4.8, "brand": None},
            "bbff0650321db13fd33292157360ff032c114ca5fef7a4afbc68f9118d269db2",
        ),
        (
            {"order_id": "ORD1", "items": [("P1", 999, 2)], "address": {"lat": Decimal("10.50")}},
            "16cc84f8f162bf7266211e1da6dc357216e3bc4432c4cc9b2f9f903a08f1f3c0",
        ),
    ],
    ids=["product", "order"],
)
def test_a_payload_hash_stays_what_ledgers_hold(fields: dict[str, Any], digest: str):
    assert payload_hash(fields) == digest


def test_a_payload_hash_ignores_order_and_absent_fields():
    assert payload_hash({"a": 1, "b": 2}) == payload_hash({"c": None, "b": 2, "a": 1})


def test_a_redriven_message_was_sent_when_its_first_copy_was():
    redriven = message("{}", attributes={"original_version": ORIGINAL_VERSION})

    assert original_sent_at(redriven, SENT_AT) == FIRST_SENT_AT
    assert first_sent_at(redriven, SENT_AT) == FIRST_SENT_AT


@pytest.mark.parametrize(
    "attribute",
    ["", "x", "-1", "1" * 18, str(int((SENT_AT + timedelta(days=2)).timestamp()) * 1_000_000)],
)
def test_an_attribute_that_is_no_such_time_is_ignored(attribute: str):
    sent = message("{}", attributes={"original_version": attribute})

    assert original_sent_at(sent, SENT_AT) is None
    assert first_sent_at(sent, SENT_AT) == SENT_AT
