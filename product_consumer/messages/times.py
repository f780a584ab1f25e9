"""Event times of producers -> UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal

from product_consumer.errors import InvalidMessage
from product_consumer.messages.time_texts import moment, read_written_time
from product_consumer.text import excerpt

MAX_FUTURE = timedelta(hours=24)
"""A clock further ahead would freeze its products: no later message could be newer."""
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
"""Older times are unset clocks (1970, 1980), not observations of a price."""

_NO_TIME = "is no time"
_TOO_OLD = f"is before {EARLIEST.year}"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CRAWLER_TIME = re.compile(r"[0-9]{8}_[0-9]{6}")
_EPOCH_TEXT = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,9})?")
_ISO_CHARACTERS = re.compile(r"[0-9TZW:+\-., ]{8,40}")
# (below this number, microseconds per unit): 1e11 seconds is the year 5138, 1e11 ms is 1973.
_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))


@dataclass(frozen=True, slots=True)
class EventTime:
    """A moment in UTC; ``timezone_assumed``: it could have named a zone, and named none."""

    at: datetime
    timezone_assumed: bool = False


def parse_event_time(raw: object, zone: tzinfo, now: datetime) -> EventTime | None:
    """Read a time as producers write it; None for null and blank text.

    These forms are read:

    - ``%d%m%Y_%H%M%S``, local time in ``zone``;
    - ISO 8601: without an offset it is local time in ``zone``, a date alone is its midnight;
    - RFC 1123, zones in brackets, 24:00 and leap seconds (``time_texts``);
    - epoch seconds, milliseconds or microseconds, as a number or digits; the magnitude decides.

    A local time that a clock change skips or repeats is read with the offset before the change.

    Raises ``InvalidMessage``: ``time_invalid`` (also before 1990), or ``version_in_future`` when
    more than 24 hours after ``now``.
    """
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return None
    if isinstance(raw, str):
        return _from_text(raw, zone, now)
    if isinstance(raw, int | float | Decimal) and not isinstance(raw, bool):
        return EventTime(_checked(_from_epoch(raw), raw, now))
    raise _invalid(raw, _NO_TIME)


def to_microseconds(at: datetime) -> int:
    """Return whole microseconds since 1970 of an aware datetime."""
    # In whole numbers: ``timestamp()`` is a float and loses microseconds.
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(microseconds: int) -> datetime:
    """Return the UTC datetime; raises ``OverflowError`` outside the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _from_text(raw: str, zone: tzinfo, now: datetime) -> EventTime:
    text = raw.strip().upper()
    if _EPOCH_TEXT.fullmatch(text):
        return EventTime(_checked(_from_epoch(Decimal(text)), raw, now))
    try:
        if _CRAWLER_TIME.fullmatch(text):
            return EventTime(_checked(_crawler_time(text, zone), raw, now))
        at, is_assumed = _iso_time(text, zone) or read_written_time(raw.strip(), zone)
    except (ValueError, OverflowError) as error:
        raise _invalid(raw, f"{_NO_TIME}: {error}") from error
    return EventTime(_checked(at, raw, now), timezone_assumed=is_assumed)


def _iso_time(text: str, zone: tzinfo) -> tuple[datetime, bool] | None:
    """Return the time of most texts, which are ISO 8601; None for any other."""
    if not _ISO_CHARACTERS.fullmatch(text):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at.replace(tzinfo=zone), True) if at.tzinfo is None else (at, False)


def _crawler_time(text: str, zone: tzinfo) -> datetime:
    """Read day, month, year, hour, minute and second; ``strptime`` takes ten times as long."""
    day, month, year = int(text[:2]), int(text[2:4]), int(text[4:8])
    hour, minute, second = int(text[9:11]), int(text[11:13]), int(text[13:15])
    return moment(date(year, month, day), (hour, minute, second, 0), zone)


def _from_epoch(number: float | Decimal) -> datetime:
    exact = Decimal(number)
    for limit, microseconds_per_unit in _UNITS:
        if exact.is_finite() and 0 <= exact < limit:
            return from_microseconds(int(exact * microseconds_per_unit))
    raise _invalid(number, _NO_TIME)


def _checked(at: datetime, raw: object, now: datetime) -> datetime:
    # The year is checked first: subtracting an offset from the years 1 and 9999 overflows.
    if at.year > now.year + 1:
        raise _in_future(raw)
    if at.year < EARLIEST.year - 1:
        raise _invalid(raw, _TOO_OLD)
    utc = at.astimezone(UTC)
    if utc > now + MAX_FUTURE:
        raise _in_future(raw)
    if utc < EARLIEST:
        raise _invalid(raw, _TOO_OLD)
    return utc


def _in_future(raw: object) -> InvalidMessage:
    return InvalidMessage("version_in_future", f"{excerpt(raw)} is more than 24 hours ahead")


def _invalid(raw: object, problem: str) -> InvalidMessage:
    return InvalidMessage("time_invalid", f"{excerpt(raw)} {problem}")
