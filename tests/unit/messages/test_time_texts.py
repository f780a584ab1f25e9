"""Times as text that ``datetime.fromisoformat`` does not read."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_consumer.messages.time_texts import read_written_time

SAIGON = ZoneInfo("Asia/Ho_Chi_Minh")
BERLIN = ZoneInfo("Europe/Berlin")
AT = datetime(2026, 11, 21, 14, 30, 5, tzinfo=UTC)
NEXT_DAY = datetime(2026, 11, 22, tzinfo=UTC)
LAST_MICROSECOND = NEXT_DAY - timedelta(microseconds=1)
MOMENTS = st.datetimes(datetime(1991, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))
ZONES = st.sampled_from(["Asia/Ho_Chi_Minh", "Europe/Berlin", "America/St_Johns", "UTC"])


def read(text: str, zone: ZoneInfo = SAIGON) -> datetime:
    return read_written_time(text, zone)[0].astimezone(UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T14:30:05+00:00Z",
        "2026-11-21T14:30:05-00:00Z",
        "2026-11-21T14:30:05+0000 UTC",
        "2026-11-21 14:30:05 UTC",
        "2026-11-21 14:30:05UTC",
        "2026-11-21 14:30:05 utc",
        "2026-11-21 14:30:05 GMT",
        "2026-11-21 14:30:05 z",
        "2026-11-21T14:30:05.000000000Z",
        "2026-11-21T21:30:05 GMT+07:00",
        "2026-11-21T21:30:05 UTC+0700",
        "2026-11-21T21:30:05 GMT+7",
        "2026-11-21T21:30:05 UTC+7:00",
        "2026-11-21T21:30:05[GMT+7]",
        "2026-11-21T21:30:05+07:00[Asia/Ho_Chi_Minh]",
        "2026-11-21t21:30:05+07:00[Asia/Ho_Chi_Minh]",
        "2026-11-21T21:30:05[Asia/Ho_Chi_Minh]",
        "2026-11-21T21:30:05 [!Asia/Ho_Chi_Minh]",
        "2026-11-21T15:30:05+01:00[Europe/Berlin]",
        "2026-11-21T21:30:05[+07:00]",
        "2026-11-21T21:30:05+07:00[GMT+07:00]",
        "2026-11-21T14:30:05Z[UTC]",
        "2026-11-21T14:30:05Z[Etc/UTC]",
        "20261121T143005Z[UTC]",
        "2026-11-21T09:30:05\N{MINUS SIGN}05:00",
        "Sat, 21 Nov 2026 14:30:05 GMT",
        "sat, 21 nov 2026 14:30:05 gmt",
        "Sat, 21 Nov 2026 21:30:05 +0700",
        "21 Nov 2026 14:30:05 GMT",
        "Sat, 21 Nov 2026 14:30:05 +0000 (UTC)",
        "Sat Nov 21 2026 21:30:05 GMT+0700 (Indochina Time)",
        "Sat Nov 21 2026 14:30:05 GMT",
        "2026-11-21 21:30:05 +0700",
        "Sat, 21 Nov 2026 14:30:05.000000000 UTC +00:00",
        "Sat Nov 21 14:30:05 UTC 2026",
        "Sat Nov 21 21:30:05 GMT+07:00 2026",
        "Sat Nov 21 21:30:05 +0700 2026",
    ],
)
def test_a_form_with_one_meaning_is_read(text: str) -> None:
    assert read_written_time(text, SAIGON) == (AT, False)


@pytest.mark.parametrize("text", ["21 Nov 2026 21:30:05", "Sat, 21 Nov 2026 21:30:05"])
def test_a_form_that_names_no_zone_is_local_time(text: str) -> None:
    assert read_written_time(text, SAIGON) == (AT, True)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T24:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T24:00:00.000+00:00",
        "20261121T240000Z",
        "2026-11-22T07:00:00 GMT+07:00",
        "2026-11-21T24:00 UTC",
    ],
)
def test_the_end_of_a_day_is_the_midnight_after_it(text: str) -> None:
    assert read(text) == NEXT_DAY


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T23:59:60Z",
        "2026-11-21T23:59:60.5Z",
        "20261121T235960Z",
        "2026-11-22T06:59:60+07:00",
        "Sat, 21 Nov 2026 23:59:60 GMT",
    ],
)
def test_a_leap_second_stays_in_its_day(text: str) -> None:
    assert read(text) == LAST_MICROSECOND


def test_a_leap_second_lies_between_its_neighbours() -> None:
    texts = ["2016-12-31T23:59:59Z", "2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"]
    moments = [read(text) for text in texts]
    assert moments == sorted(set(moments))


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T14:30:05+07:00Z",
        "2026-11-21T14:30:05 +0700 UTC",
        "2026-11-21T14:30:05+09:00[Asia/Ho_Chi_Minh]",
        "2026-11-21T14:30:05Z[Asia/Ho_Chi_Minh]",
        "2026-07-21T14:30:05+01:00[Europe/Berlin]",
        "2026-11-21T14:30:05[Asia/Nowhere]",
        "2026-11-21T14:30:05[Asia]",
        "2026-11-21T14:30:05[localtime]",
        "2026-11-21T14:30:05[right/UTC]",
        "2026-11-21T14:30:05[../../etc/passwd]",
        "2026-11-21T14:30:05Z[u-ca=hebrew]",
        "Fri, 21 Nov 2026 14:30:05 GMT",
        "Sat, 31 Feb 2026 14:30:05 GMT",
        "Saturday, 21-Nov-26 14:30:05 GMT",
        "Sat Nov 21 14:30:05 2026",
        "Fri Nov 21 2026 14:30:05 GMT+0000 (UTC)",
        "2026-11-21T14:30:05 (Indochina Time)",
        "2026-11-21T14:30:05 EST",
        "2026-11-21T14:30:05 UTC +07:00",
        "Sat Nov 21 14:30:05 EST 2026",
        "Fri Nov 21 14:30:05 UTC 2026",
        "2026-11-21T14:30:05 CST",
        "2026-11-21T14:30:05ZZ",
        "2026-11-21T14:30:05Z+07:00",
        "2026-11-21T14:30:05Z+7",
        "2026-11-21T14:30:05[Z+07:00]",
        "2026-11-21T14:30:05+7",
        "2026-11-21T14:30:05 GMT+700",
        "11/12/2026 14:30:05",
        "2026-11-21T24:00:01Z",
        "2026-11-21T24:30Z",
        "2026-11-21T25:00Z",
        "2026-11-21T14:30:60Z",
        "2026-11-21T23:59:60+07:00",
        "2026-11-21T23:59:61Z",
        "2026-11-21T14:60:00 UTC",
        "2026-11-21T14:30:05+07:60Z",
        "2026-11-21T14:30:05+25:00[UTC]",
        "",
        "Z",
        "2026-11-21 UTC",
    ],
)
def test_a_form_with_two_meanings_or_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(text)


def test_a_local_time_that_occurs_twice_may_state_either_offset() -> None:
    first = read("2026-10-25T02:30:00+02:00[Europe/Berlin]")
    assert read("2026-10-25T02:30:00+01:00[Europe/Berlin]") - first == timedelta(hours=1)
    assert read("2026-10-25T02:30:00[Europe/Berlin]") == first


@settings(max_examples=30)
@given(MOMENTS, ZONES)
def test_what_java_writes_is_read_back(at: datetime, zone: str) -> None:
    local = at.astimezone(ZoneInfo(zone))
    assert read(f"{local.isoformat()}[{zone}]") == at


@settings(max_examples=30)
@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_what_mail_and_http_write_is_read_back(at: datetime, offset_minutes: int) -> None:
    at = at.replace(microsecond=0)
    assert read(format_datetime(at, usegmt=True)) == at
    there = timezone(timedelta(minutes=offset_minutes))
    assert read(format_datetime(at.astimezone(there))) == at


@settings(max_examples=30)
@given(st.lists(MOMENTS, min_size=2, max_size=2), st.sampled_from(["{}Z", "{} UTC", "{}[UTC]"]))
def test_later_moments_are_read_as_later(moments: list[datetime], form: str) -> None:
    first, second = (read(form.format(at.replace(tzinfo=None).isoformat())) for at in moments)
    assert (first < second) == (moments[0] < moments[1])


@settings(max_examples=100)
@given(st.text(max_size=60) | st.text("0123456789-:+TZUCGM[]/, NOVSAT", max_size=60))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        at, _ = read_written_time(text, BERLIN)
    except (ValueError, OverflowError):
        return
    assert at.tzinfo is not None
