"""Message body -> Product: its fields, its version, and which of several problems is reported."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import ConfigurationError, IgnoreMessage, InvalidMessage
from product_consumer.messages.times import to_microseconds
from product_consumer.models import Message, Product
from product_consumer.products.parser import ProductParser
from tests.support.factories import OBSERVED_AT, SENT_AT, body_text, message, product_body

PARSER = ProductParser(default_currency="VND", source_timezone="UTC")


def parse(body: str | bytes, **overrides: Any) -> Product:
    return PARSER.parse(message(body, **overrides), now=SENT_AT)


def reason_of(body: str | bytes, **overrides: Any) -> str:
    with pytest.raises(InvalidMessage) as caught:
        parse(body, **overrides)
    return caught.value.reason


def tombstone_text(**fields: Any) -> str:
    return json.dumps({"id": "abc123", "deleted": True, **fields})


def redriven(original_version: str) -> dict[str, str]:
    return {"original_version": original_version}


def test_a_crawlers_message_becomes_a_normalised_product():
    parsed = parse(body_text())
    assert parsed == Product(
        id="abc123",
        version=parsed.version,
        observed_at=OBSERVED_AT,
        name="Áo thun nam cổ tròn",
        image_url="https://cdn.example/img/abc123.jpg",
        store_url="https://shop.example/p/abc123",
        price_minor=1_299_000,
        currency="VND",
        rating=4.8,
        reviews_count=1520,
    )


def test_the_optional_fields_of_newer_producers_are_kept():
    parsed = parse(body_text(description=" Cotton ", category="Shirts", brand="Áo & Co"))
    assert (parsed.description, parsed.category, parsed.brand) == ("Cotton", "Shirts", "Áo & Co")


def test_crawler_times_are_local_to_the_source_timezone():
    parser = ProductParser(default_currency="VND", source_timezone="Asia/Ho_Chi_Minh")
    parsed = parser.parse(message(body_text(timestamp="21112026_143005")), now=SENT_AT)
    assert parsed.observed_at == datetime(2026, 11, 21, 7, 30, 5, tzinfo=UTC)


def test_updated_at_wins_over_timestamp():
    parsed = parse(body_text(updated_at="2026-11-20T00:00:00Z", timestamp="nonsense"))
    assert parsed.observed_at == datetime(2026, 11, 20, tzinfo=UTC)


def test_a_blank_updated_at_leaves_the_timestamp():
    assert parse(body_text(updated_at="")).observed_at == OBSERVED_AT


def test_without_an_event_time_the_sent_time_is_the_time_observed():
    assert parse(body_text(without=("timestamp",))).observed_at == SENT_AT


@pytest.mark.parametrize("number", [17, "17", " 17 ", 17.0, "17.0"])
def test_a_version_ranks_first_and_the_event_time_is_still_observed(number):
    parsed = parse(body_text(version=number))
    assert (parsed.version.rank, parsed.version.value) == (2, 17)
    assert parsed.observed_at == OBSERVED_AT


@pytest.mark.parametrize("time", ["yesterday", "9999-12-31T23:59:59Z", 0, [], True, "11/12/2026"])
def test_beside_a_version_a_time_that_cannot_be_read_is_left_out_with_a_flag(time):
    parsed = parse(body_text(version=17, updated_at=time))
    assert (parsed.version.rank, parsed.observed_at) == (2, OBSERVED_AT)
    assert parsed.flags == ("updated_at_ignored",)


def test_beside_a_version_bad_times_leave_the_time_of_sending():
    parsed = parse(body_text(version=17, updated_at="x", timestamp="y"))
    assert parsed.observed_at == SENT_AT
    assert parsed.flags == ("updated_at_ignored", "timestamp_ignored")


def test_a_tombstone_with_a_version_needs_no_time_that_can_be_read():
    assert parse(tombstone_text(version=3, timestamp="x")).flags == ("timestamp_ignored",)


@pytest.mark.parametrize("field", ["updated_at", "timestamp"])
def test_a_time_that_decides_which_message_is_newer_is_never_left_out(field):
    fields: dict[str, Any] = {field: "yesterday"}
    assert reason_of(body_text(**fields)) == "time_invalid"


@pytest.mark.parametrize("number", [0, 2**63 - 1])
def test_the_first_and_last_version_are_accepted(number):
    assert parse(body_text(version=number)).version.value == number


def test_an_event_time_ranks_second_in_microseconds():
    parsed = parse(body_text(timestamp="2026-11-21T14:30:05.000007Z"))
    assert parsed.version.rank == 1
    assert parsed.version.value == to_microseconds(OBSERVED_AT) + 7


def test_the_sent_time_ranks_last_in_microseconds():
    parsed = parse(body_text(without=("timestamp",)))
    assert (parsed.version.rank, parsed.version.value) == (0, to_microseconds(SENT_AT))


def test_a_redriven_message_keeps_the_place_and_time_of_its_first_copy():
    first_sent = SENT_AT - timedelta(days=3)
    body = body_text(without=("timestamp",))
    parsed = parse(body, attributes=redriven(str(to_microseconds(first_sent))))
    assert (parsed.version.rank, parsed.version.value) == (0, to_microseconds(first_sent))
    assert parsed.observed_at == first_sent


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "9" * 17, "9" * 400, "\u0661"])
def test_a_malformed_original_version_is_ignored(text):
    parsed = parse(body_text(without=("timestamp",)), attributes=redriven(text))
    assert parsed.version.value == to_microseconds(SENT_AT)


def test_an_event_time_outranks_the_original_version():
    parsed = parse(body_text(), attributes=redriven(str(to_microseconds(SENT_AT))))
    assert (parsed.version.rank, parsed.observed_at) == (1, OBSERVED_AT)


@pytest.mark.parametrize(
    "other",
    [
        {"price": 1299000},
        {"price": "1,299,000 VND"},
        {"rating": 4.80, "reviews_count": 1520},
        {"reviews_count": "1,520"},
        {"reviews_count": "1,520 ratings"},
        {"rating": "4.8 out of 5 stars"},
        {"name": "  Áo thun nam cổ tròn "},
        {"name": "&Aacute;o thun nam c\u1ed5 tr&ograve;n"},
        {"brand": ["x"]},
        {"timestamp": "2026-11-20T00:00:00Z"},
        {"version": 9},
        {"colour": "red"},
        {"currency": "vnd"},
        {"deleted": False},
        {"brand": ""},
    ],
)
def test_equal_content_has_an_equal_hash_however_it_is_written(other):
    assert parse(body_text(**other)).version.payload_hash == parse(body_text()).version.payload_hash


@pytest.mark.parametrize(
    "other",
    [
        {"name": "Other"},
        {"price": 1299001},
        {"price": None},
        {"price": 1299000, "currency": "JPY"},
        {"rating": 4.7},
        {"reviews_count": 0},
        {"reviews_count": None},
        {"image_url": "https://cdn.example/2.jpg"},
        {"store_url": None},
        {"description": "new"},
    ],
)
def test_other_content_has_another_hash(other):
    if "currency" in other:
        other = {**other, "price": 1299000}
    assert parse(body_text(**other)).version.payload_hash != parse(body_text()).version.payload_hash


@pytest.mark.parametrize(
    ("fields", "rank"),
    [
        ({"version": 3}, 2),
        ({"updated_at": "2026-11-21T14:30:05Z"}, 1),
        ({"timestamp": 1795271405}, 1),
    ],
)
def test_a_tombstone_needs_an_id_and_something_to_order_it(fields, rank):
    parsed = parse(tombstone_text(**fields))
    assert parsed.deleted
    assert (parsed.id, parsed.version.rank) == ("abc123", rank)


def test_a_tombstone_without_an_order_is_rejected():
    assert reason_of(tombstone_text()) == "missing:version"


def test_a_redriven_tombstone_is_ordered_by_its_first_copy():
    first_sent = str(to_microseconds(SENT_AT))
    assert parse(tombstone_text(), attributes=redriven(first_sent)).version.rank == 0


def test_the_other_fields_of_a_tombstone_are_ignored():
    parsed = parse(tombstone_text(version=3, name=5, price=["x"], rating=99))
    assert (parsed.name, parsed.price_minor, parsed.rating) == ("", None, None)


def test_tombstones_of_one_product_have_one_hash_unlike_any_product():
    tombstones = {
        parse(tombstone_text(version=n, name=f"{n}")).version.payload_hash for n in (1, 2)
    }
    assert len(tombstones) == 1
    assert parse(body_text()).version.payload_hash not in tombstones


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (body_text(without=("price",), id=[], rating=99), "missing:price"),
        (body_text(without=("name", "price")), "missing:name"),
        (body_text(price="call us", image_url=""), "missing:image_url"),
        (body_text(price="call us", name=5), "name_type"),
        (body_text(price="call us", rating=99), "review_range"),
        (body_text(price="call us", timestamp="x"), "price_invalid"),
        (body_text(version="x", timestamp="y"), "version_invalid"),
        (json.dumps({"order_id": "1", "schema_version": 9}), "wrong_kind"),
        (body_text(without=("name",), schema_version=9), "unsupported_schema"),
    ],
)
def test_of_several_problems_the_same_one_is_always_reported(body, reason):
    assert reason_of(body) == reason


def test_a_detail_quotes_braces_as_they_are():
    with pytest.raises(InvalidMessage) as caught:
        parse(body_text(deleted="{price} {0}"))
    assert "{price} {0}" in caught.value.detail


def test_a_product_with_an_order_id_of_its_own_is_a_product():
    assert parse(body_text(order_id="ORD1")).id == "abc123"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"default_currency": "ZZZ", "source_timezone": "UTC"}, "DEFAULT_CURRENCY"),
        ({"default_currency": "", "source_timezone": "Mars/Base"}, "SOURCE_TIMEZONE"),
        ({"default_currency": "", "source_timezone": "../etc"}, "SOURCE_TIMEZONE"),
    ],
)
def test_settings_that_cannot_work_are_named(settings, name):
    with pytest.raises(ConfigurationError) as caught:
        ProductParser(**settings)
    assert caught.value.setting == name


def test_now_defaults_to_the_clock():
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    fresh = body_text(timestamp=an_hour_ago.isoformat())
    assert PARSER.parse(message(fresh)).observed_at == an_hour_ago


NEVER_REQUIRED = ("rating", "reviews_count", "description", "brand", "category", "store_url")
# The only values that reject a product for such a field: what shows a wrong producer.
OPTIONAL_VALUES = (
    st.none()
    | st.booleans()
    | st.floats(0, 5, allow_subnormal=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Nd"]), max_size=20)
    | st.lists(st.text(max_size=3), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
)


@given(st.dictionaries(st.sampled_from(NEVER_REQUIRED), OPTIONAL_VALUES))
def test_an_optional_field_never_costs_a_product_its_place(fields: dict[str, Any]):
    delivered = Message("m", "r", json.dumps(product_body(**fields)), 1, SENT_AT)
    assert PARSER.parse(delivered, now=SENT_AT).name == product_body()["name"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELD_NAMES = (*product_body(), "version", "updated_at", "deleted", "currency", "schema_version")


def assert_product_or_reason(body: str | bytes) -> None:
    """``Message`` is built here: the factory's counter would make every run another one."""
    delivered = Message("m", "r", body, 1, SENT_AT)
    try:
        parsed = PARSER.parse(delivered, now=SENT_AT)
    except (InvalidMessage, IgnoreMessage) as error:
        assert error.reason
        assert error.detail.isprintable()
    else:
        json.dumps([parsed.id, parsed.name, parsed.rating]).encode()
        parsed.name.encode()
        assert (parsed.price_minor is None) == (parsed.currency is None)


@given(st.binary())
def test_any_bytes_are_a_product_or_a_reason(body: bytes):
    assert_product_or_reason(body)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_is_a_product_or_a_reason(body: str):
    assert_product_or_reason(body)


@given(JSON_VALUES)
def test_any_json_is_a_product_or_a_reason(value: Any):
    assert_product_or_reason(json.dumps(value))


@given(st.dictionaries(st.sampled_from(FIELD_NAMES), JSON_VALUES, max_size=4))
def test_a_product_with_any_values_in_its_fields_is_a_product_or_a_reason(fields: dict[str, Any]):
    assert_product_or_reason(json.dumps(product_body(**fields)))


@pytest.mark.parametrize(
    "field", ["id", "name", "price", "rating", "reviews_count", "timestamp", "version", "currency"]
)
@pytest.mark.parametrize("pattern", ["1.", " ", "1 ", "\u0315\u0300", "-", "$"])
def test_a_megabyte_in_one_field_is_a_product_or_a_reason_without_a_long_wait(field, pattern):
    body = body_text(**{field: pattern * (900_000 // len(pattern.encode())) + "x"})
    started = datetime.now(UTC)
    assert_product_or_reason(body)
    assert datetime.now(UTC) - started < timedelta(seconds=10)
