"""Each value of an order alone: what is fixed and flagged, and what is refused."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.messages.prices import Price
from product_consumer.models import MAX_ID_BYTES
from product_consumer.money import to_major
from product_consumer.orders.cleaning import (
    MAX_ITEMS,
    MAX_MINOR,
    MAX_PAYMENT_METHOD_BYTES,
    MAX_QUANTITY,
    clean_id,
    clean_items,
    clean_payment_method,
    clean_user_id,
    parse_amount,
    total_minor,
)
from product_consumer.orders.models import OrderItem, Quantity

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
RAW = st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | TEXT


def cleaned(raw: object) -> tuple[str, list[str]]:
    flags: list[str] = []
    return clean_id(raw, "order_id", flags), flags


def amount(raw: object, currency: object = None, default: str = "USD") -> tuple[Price, list[str]]:
    flags: list[str] = []
    return parse_amount(raw, "order_value", currency, default, flags), flags


def items(*lines: Any, currency: str = "USD") -> tuple[tuple[OrderItem, ...], list[str]]:
    flags: list[str] = []
    return clean_items(list(lines), currency, "USD", flags), flags


def line(product_id: object = "P1", quantity: object = 1, price: object = 5) -> dict[str, object]:
    return {"product_id": product_id, "quantity": quantity, "price_per_unit": price}


def reason_of(clean: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidMessage) as caught:
        clean(*arguments)
    return caught.value.reason


@pytest.mark.parametrize(
    ("raw", "kept", "flags"),
    [
        ("ORD1234", "ORD1234", []),
        ("ord1234", "ORD1234", ["id_case"]),
        (" ORD1234 ", "ORD1234", ["id_spaces"]),
        ("ORD 1234", "ORD1234", ["id_spaces"]),
        ("p1", "P1", ["id_case"]),
        ("order1", "order1", []),
        ("a1b2", "a1b2", []),
        ("5f2c-Ab", "5f2c-Ab", []),
        (" a b ", "a b", ["id_spaces"]),
        ("cafe\N{COMBINING ACUTE ACCENT}", "café", ["id_normalised"]),
        (42, "42", ["id_from_number"]),
    ],
)
def test_an_id_is_the_same_however_it_is_written(raw: object, kept: str, flags: list[str]) -> None:
    assert cleaned(raw) == (kept, flags)


@given(TEXT)
def test_a_clean_id_is_clean_already(raw: str) -> None:
    try:
        kept, _ = cleaned(raw)
    except InvalidMessage:
        return
    assert cleaned(kept) == (kept, [])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "missing:order_id"),
        (True, "id_type"),
        (Decimal("1.5"), "id_type"),
        ([], "id_type"),
        ("", "id_invalid"),
        ("a\tb", "id_invalid"),
        ("x" * (MAX_ID_BYTES + 1), "id_too_long"),
        ("\N{COMBINING ACUTE ACCENT}" * 100_000, "id_too_long"),
        ("a\x00", "text_invalid"),
    ],
)
def test_an_id_that_cannot_be_one_is_refused(raw: object, reason: str) -> None:
    assert reason_of(cleaned, raw) == reason


@pytest.mark.parametrize("character", ":*?[]")
def test_a_user_id_holds_nothing_that_redis_reads_as_a_pattern(character: str) -> None:
    assert reason_of(clean_user_id, f"U{character}1", []) == "id_invalid"
    assert cleaned(f"U{character}1")[0] == f"U{character}1"


@pytest.mark.parametrize(
    ("raw", "method", "flags"),
    [
        ("CreditCard", "CreditCard", []),
        ("credit card", "CreditCard", ["payment_method_cleaned"]),
        ("CREDIT-CARD", "CreditCard", ["payment_method_cleaned"]),
        ("cod", "CashOnDelivery", ["payment_method_cleaned"]),
        ("  Ví   điện tử ", "Ví điện tử", ["payment_method_cleaned"]),
        ("Barter", "Barter", []),
        ("", None, []),
        (None, None, []),
        (5, None, ["payment_method_ignored"]),
    ],
)
def test_a_payment_method_has_one_spelling(
    raw: object, method: str | None, flags: list[str]
) -> None:
    found: list[str] = []
    assert (clean_payment_method(raw, found), found) == (method, flags)


@given(TEXT | st.text("₫", max_size=200))
def test_a_payment_method_is_short(raw: str) -> None:
    try:
        method = clean_payment_method(raw, [])
    except InvalidMessage as error:
        assert error.reason == "text_invalid"
    else:
        assert method is None or 0 < len(method.encode()) <= MAX_PAYMENT_METHOD_BYTES


@given(st.integers(0, MAX_MINOR), st.sampled_from(["USD", "VND", "KWD"]))
def test_an_amount_is_the_same_as_a_number_and_as_text(minor: int, currency: str) -> None:
    major = to_major(minor, currency)
    if major >= 10**15:
        return
    assert amount(major, currency) == (Price(minor, currency), [])
    assert amount(f"{major:f}", currency) == (Price(minor, currency), ["number_as_text"])


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 10**6)), min_size=1, max_size=20),
)
def test_a_sum_of_doubles_is_what_was_meant(lines: list[tuple[int, int]]) -> None:
    """Producers add in floating point; the cents come out all the same."""
    total = sum(quantity * (cents / 100) for quantity, cents in lines)
    meant = sum(quantity * cents for quantity, cents in lines)

    found, flags = amount(Decimal(repr(total)))
    assert found.minor == meant
    assert set(flags) <= {"amount_float_noise"}


def test_an_amount_with_a_real_third_decimal_is_refused_and_the_setting_is_named() -> None:
    with pytest.raises(InvalidMessage, match="DEFAULT_CURRENCY is USD") as caught:
        amount(Decimal("19.995"))
    assert caught.value.reason == "price_precision"

    assert reason_of(amount, Decimal("19.995"), "USD") == "price_precision"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "missing:order_value"),
        (" ", "missing:order_value"),
        (-1, "unsupported"),
        ("-$5", "unsupported"),
        ("(5.00)", "unsupported"),
        ("−5", "unsupported"),  # noqa: RUF001
        ("free", "price_invalid"),
        (True, "price_type"),
        ([], "price_type"),
        (10**15, "amount_range"),
        (Decimal(MAX_MINOR + 1).scaleb(-2), "amount_range"),
    ],
)
def test_an_amount_that_cannot_be_counted_is_refused(raw: object, reason: str) -> None:
    assert reason_of(amount, raw) == reason


def test_the_largest_amount_is_the_largest_that_a_double_holds() -> None:
    assert amount(Decimal(MAX_MINOR).scaleb(-2))[0].minor == MAX_MINOR


@pytest.mark.parametrize(
    ("raw", "quantity"),
    [
        *((raw, 2) for raw in (2, "2", "2.0", Decimal("2.0"), "２")),  # noqa: RUF001
        *((raw, Decimal("1.5")) for raw in (Decimal("1.5"), "1.5", "1.500", Decimal("1.50"))),
        (Decimal("0.30000000000000004"), Decimal("0.3")),
        (Decimal("0.000001"), Decimal("0.000001")),
    ],
)
def test_a_quantity_is_the_same_number_however_it_is_written(
    raw: object, quantity: Quantity
) -> None:
    [found], _ = items(line(quantity=raw))
    assert found == OrderItem("P1", quantity, 500)
    assert type(found.quantity) is type(quantity)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "missing:quantity"),
        ("", "missing:quantity"),
        (True, "quantity_type"),
        ("two", "quantity_type"),
        ("1,5", "quantity_type"),
        (Decimal("0.0000001"), "quantity_precision"),
        (Decimal("1.00000001"), "quantity_precision"),
        (Decimal("1e-300"), "quantity_precision"),
        (Decimal("-0.5"), "unsupported"),
        (Decimal("1000000.5"), "quantity_range"),
        (-1, "unsupported"),
        (MAX_QUANTITY + 1, "quantity_range"),
        (Decimal("1e300"), "quantity_range"),
    ],
)
def test_a_quantity_that_cannot_be_counted_is_refused(raw: object, reason: str) -> None:
    assert reason_of(items, line(quantity=raw)) == reason


def test_a_sum_that_ends_in_a_fraction_is_refused_with_it() -> None:
    lines, _ = items(line(quantity=Decimal("0.335"), price=Decimal("9.99")))
    with pytest.raises(InvalidMessage, match=r"quantity_precision: .* 334\.665 minor units"):
        total_minor(lines)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 3_000_000), st.integers(0, 5_000)), min_size=1))
def test_a_sum_of_weights_is_exact_or_refused(lines: list[tuple[int, int]]) -> None:
    sold = [OrderItem("P1", Decimal(micro).scaleb(-6), unit) for micro, unit in lines]
    exact = sum((Fraction(micro, 10**6) * unit for micro, unit in lines), Fraction())
    if exact.denominator == 1:
        assert total_minor(sold) == exact
    else:
        assert reason_of(total_minor, sold) == "quantity_precision"


@pytest.mark.parametrize("micro", [1, 999_999_999_999])
def test_the_longest_quantities_and_prices_are_multiplied_exactly(micro: int) -> None:
    quantity, unit_minor = Decimal(micro).scaleb(-6), 10**6 * 8_999
    assert total_minor([OrderItem("P1", quantity, unit_minor)]) == micro * 8_999


def test_lines_are_equal_when_product_and_price_are() -> None:
    found, flags = items(line("p1", 1, 5), line("P1", 2, "5.00"), line("P1", 4, 6))

    assert found == (OrderItem("P1", 3, 500), OrderItem("P1", 4, 600))
    assert flags == ["id_case", "number_as_text", "items_merged"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["P1", "P2", "P3"]), st.integers(1, 9)), min_size=1, max_size=30
    )
)
def test_merging_changes_no_total(lines: list[tuple[str, int]]) -> None:
    found, _ = items(*(line(product_id, quantity) for product_id, quantity in lines))

    assert total_minor(found) == sum(quantity * 500 for _, quantity in lines)
    assert len({item.product_id for item in found}) == len(found)


def test_what_counts_nothing_is_dropped() -> None:
    found, flags = items(None, line(quantity=0), line())

    assert found == (OrderItem("P1", 1, 500),)
    assert flags == ["item_null", "item_zero_quantity"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "missing:items"),
        ([], "missing:items"),
        ([None, line(quantity=0)], "missing:items"),
        ("P1", "items_type"),
        ([["P1", 1]], "items_type"),
        ([line()] * (MAX_ITEMS + 1), "items_range"),
    ],
)
def test_items_that_are_no_items_are_refused(raw: object, reason: str) -> None:
    assert reason_of(clean_items, raw, "USD", "USD", []) == reason


def test_the_total_of_an_order_is_bounded() -> None:
    assert total_minor([OrderItem("P1", 1, MAX_MINOR)]) == MAX_MINOR
    assert reason_of(total_minor, [OrderItem("P1", 2, MAX_MINOR)]) == "amount_range"


@given(RAW, RAW, RAW)
def test_any_line_is_an_item_or_has_a_reason(
    product_id: object, quantity: object, price: object
) -> None:
    try:
        [item] = items(line(product_id, quantity, price))[0]
    except InvalidMessage as error:
        assert error.reason
        assert error.detail.isprintable()
    else:
        assert 0 < item.quantity <= MAX_QUANTITY
        assert 0 <= item.unit_minor <= MAX_MINOR
