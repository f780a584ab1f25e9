"""Event times as producers write them -> UTC."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import InvalidMessage
from product_consumer.messages.times import (
    EARLIEST,
    MAX_FUTURE,
    from_microseconds,
    parse_event_time,
    to_microseconds,
)

SAIGON = ZoneInfo("Asia/Ho_Chi_Minh")
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 12, 1, tzinfo=UTC)
AT = datetime(2026, 11, 21, 14, 30, 5, tzinfo=UTC)
EPOCH_SECONDS = int(AT.timestamp())


def read(raw: object, zone: ZoneInfo = SAIGON) -> datetime:
    event_time = parse_event_time(raw, zone, NOW)
    assert event_time is not None
    return event_time.at


def reason_of(raw: object) -> str:
    with pytest.raises(InvalidMessage) as caught:
        parse_event_time(raw, SAIGON, NOW)
    return caught.value.reason


@pytest.mark.parametrize(
    "raw",
    [
        "21112026_213005",
        "2026-11-21T14:30:05Z",
        "2026-11-21t14:30:05z",
        "2026-11-21T21:30:05+07:00",
        "2026-11-21 21:30:05",
        "20261121T213005",
        "20261121T143005Z",
        "2026-11-21T14:30:05,0Z",
        "2026-11-21T14:30:05+00:00Z",
        "2026-11-21 14:30:05 UTC",
        "2026-11-21T21:30:05+07:00[Asia/Ho_Chi_Minh]",
        "Sat, 21 Nov 2026 14:30:05 GMT",
        EPOCH_SECONDS,
        EPOCH_SECONDS * 1000,
        EPOCH_SECONDS * 1_000_000,
        str(EPOCH_SECONDS),
        f" {EPOCH_SECONDS}000 ",
        Decimal(EPOCH_SECONDS),
        float(EPOCH_SECONDS),
    ],
)
def test_every_format_in_use_is_read_to_the_same_instant(raw):
    assert read(raw) == AT


@pytest.mark.parametrize("raw", [f"{EPOCH_SECONDS}.25", Decimal(f"{EPOCH_SECONDS}.25")])
def test_fractions_of_a_second_are_kept(raw):
    assert read(raw) == AT + timedelta(milliseconds=250)


def test_the_time_is_in_utc():
    assert read("2026-11-21T21:30:05+07:00").tzinfo is UTC


def test_a_date_alone_is_its_midnight_in_the_source_zone():
    assert read("2026-11-21") == datetime(2026, 11, 20, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "assumed"),
    [
        ("2026-11-21T14:30:05", True),
        ("2026-11-21", True),
        ("2026-11-21T14:30:05Z", False),
        ("21112026_213005", False),
        (EPOCH_SECONDS, False),
    ],
)
def test_an_assumed_zone_is_told_where_the_format_could_have_named_one(raw, assumed):
    event_time = parse_event_time(raw, SAIGON, NOW)
    assert event_time is not None
    assert event_time.timezone_assumed is assumed


@pytest.mark.parametrize("raw", [None, "", "  "])
def test_an_absent_time_is_none(raw):
    assert parse_event_time(raw, SAIGON, NOW) is None


@pytest.mark.parametrize(
    "raw",
    [
        "2026-02-30",
        "30022026_000000",
        "21112026_250000",
        "2026-11-21T25:00:00Z",
        "yesterday",
        "21112026_240001",
        "21112026_235960",
        "2026",
        "20261121",
        "2026-11-21T14:30:05\u0000",
        "\u0662\u0660\u0662\u0666-11-21",
        0,
        -1,
        "-1795246205",
        10**17,
        float("nan"),
        float("inf"),
        Decimal("1E+300"),
        "1970-01-01T00:00:00Z",
        "1989-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        True,
        [],
        {},
    ],
)
def test_a_value_that_is_no_time_since_1990_is_invalid(raw):
    assert reason_of(raw) == "time_invalid"


@pytest.mark.parametrize(
    "raw",
    [
        "2026-12-02T00:00:01Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "31129999_235959",
        EPOCH_SECONDS + 86_400 * 30,
        10**11 - 1,
    ],
)
def test_more_than_24_hours_ahead_is_in_the_future(raw):
    assert reason_of(raw) == "version_in_future"


def test_a_time_exactly_24_hours_ahead_is_accepted():
    assert read((NOW + MAX_FUTURE).isoformat()) == NOW + MAX_FUTURE


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("20112026_240000", datetime(2026, 11, 20, 17, tzinfo=UTC)),
        ("21112026_065960", datetime(2026, 11, 20, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_crawler_may_write_the_end_of_a_day_and_a_leap_second(raw, expected):
    assert read(raw) == expected


def test_the_detail_says_why_a_text_is_no_time():
    with pytest.raises(InvalidMessage, match='"1989-12-31T23:59:59Z" is before 1990'):
        read("1989-12-31T23:59:59Z")
    with pytest.raises(InvalidMessage, match="is no time: that day is no Mon"):
        read("Mon, 21 Nov 2026 14:30:05 GMT")


def test_a_local_time_that_the_clocks_skipped_is_read_with_the_offset_before():
    assert read("29032026_023000", BERLIN) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_a_local_time_that_occurs_twice_is_its_first():
    assert read("2026-10-25T02:30:00", BERLIN) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@given(st.datetimes(datetime(1990, 1, 2), datetime(2026, 11, 30), timezones=st.just(UTC)))
def test_microseconds_are_read_back_exactly(at: datetime):
    assert from_microseconds(to_microseconds(at)) == at
    assert read(to_microseconds(at)) == at


@given(
    st.one_of(
        st.text(max_size=40),
        st.text(alphabet="0123456789-:T+Z_. W", max_size=30),
        st.integers(),
        st.floats(),
        st.decimals(),
    )
)
def test_any_value_is_a_time_between_the_limits_or_a_named_reason(raw):
    try:
        event_time = parse_event_time(raw, BERLIN, NOW)
    except InvalidMessage as error:
        assert error.reason in {"time_invalid", "version_in_future"}
    else:
        assert event_time is None or EARLIEST <= event_time.at <= NOW + MAX_FUTURE


SENSIBLE_TIMES = st.datetimes(datetime(1991, 1, 1), datetime(2026, 11, 30))


@given(
    st.from_regex(r"[0-3][0-9][01][0-9]20[0-2][0-9]_[0-2][0-9][0-6][0-9][0-5][0-9]", fullmatch=True)
    # 24:00 is the end of the day.
    .filter(lambda text: not text.endswith("240000"))
    | SENSIBLE_TIMES.map(lambda at: f"{at:%d%m%Y_%H%M%S}")
)
def test_a_crawlers_time_is_read_as_strptime_reads_it(text: str):
    try:
        expected = datetime.strptime(text, "%d%m%Y_%H%M%S").replace(tzinfo=SAIGON)
    except ValueError:
        expected = None

    if expected is None:
        with pytest.raises(InvalidMessage, match="time_invalid"):
            read(text)
    elif expected <= NOW:
        assert read(text) == expected
