"""Times as text in the forms that ``datetime.fromisoformat`` does not read, each with one meaning.

| form | example |
|---|---|
| UTC beside an offset of zero | ``2026-11-20T10:00:00+00:00Z`` |
| UTC as a word, an offset behind it | ``2026-11-20 10:00:00 UTC``, ``... GMT+07:00`` |
| a zone in brackets, as Java and RFC 9557 write it | ``...+07:00[Asia/Ho_Chi_Minh]`` |
| RFC 1123 | ``Fri, 20 Nov 2026 10:00:00 GMT`` |
| the end of a day | ``2026-11-20T24:00:00Z`` |
| a leap second | ``2016-12-31T23:59:60Z`` |
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

Clock: TypeAlias = tuple[int, int, int, int]
"""Hour, minute, second and microsecond."""

MAX_CHARACTERS: Final = 100

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_OFFSET = r"[+-][0-9]{2}(?::?[0-9]{2}){0,2}"
_UTC = "(?:Z|UTC|GMT|UT)"
_DATE = (
    r"(?:(?P<iso_date>[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})[T ]"
    rf"|(?:(?P<weekday>{'|'.join(_WEEKDAYS)}), )?"
    rf"(?P<day>[0-9]{{1,2}}) (?P<month>{'|'.join(_MONTHS)}) (?P<year>[0-9]{{4}}) )"
)
_CLOCK = (
    r"(?P<hour>[0-9]{2})(?::?(?P<minute>[0-9]{2})"
    r"(?::?(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,12}))?)?)?"
)
# Either UTC as a word and perhaps an offset from it, or an offset and perhaps UTC as a word.
_ZONE = (
    rf"(?: ?(?:(?P<utc>{_UTC})(?P<from_utc>{_OFFSET})?"
    rf"|(?P<offset>{_OFFSET})(?: ?(?P<again>{_UTC}))?))?"
)
_TEXT = re.compile(_DATE + _CLOCK + _ZONE)
_BRACKETS = re.compile(r"(?P<rest>[^\[\]]+?) ?\[!?(?P<zone>[A-Za-z0-9_+\-/:]{1,64})\]")
_BRACKETED_OFFSET = re.compile(rf"{_UTC}?(?P<offset>{_OFFSET})")
# These files depend on the machine, or count leap seconds.
_NO_ZONES = ("posix", "right", "posixrules", "localtime", "Factory")


def read_written_time(text: str, zone: tzinfo) -> tuple[datetime, bool]:
    """Return the moment of a text, with its zone, and whether ``zone`` was assumed for it.

    Raises ``ValueError`` for any other text, and for one that contradicts itself. Raises
    ``OverflowError`` at the ends of the calendar.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError("too long")
    brackets = _BRACKETS.fullmatch(text)
    named = None if brackets is None else _named_zone(brackets["zone"])
    rest = text if brackets is None else brackets["rest"]
    # ISO 8601 prefers the typographic minus.
    match = _TEXT.fullmatch(rest.upper().replace("\N{MINUS SIGN}", "-"))
    if match is None:
        raise ValueError("no form that is read")
    stated = _stated_zone(match)
    at = moment(_date(match), _clock(match), stated or named or zone)
    if stated is not None and named is not None:
        _check_agreement(at, named)
    return at, stated is None and named is None


def moment(day: date, clock: Clock, zone: tzinfo) -> datetime:
    """Return a time on a day in ``zone``, also for 24:00 and a leap second.

    24:00 is the midnight that ends the day. A leap second is the last microsecond of the second
    before: it stays in its day, between that second and the next.

    Raises ``ValueError`` for numbers that are no time. Raises ``OverflowError`` at the ends of the
    calendar.
    """
    hour, minute, second, microsecond = clock
    if clock == (24, 0, 0, 0):
        day, hour = day + timedelta(days=1), 0
    if second != 60:
        return datetime(day.year, day.month, day.day, hour, minute, second, microsecond, zone)
    at = datetime(day.year, day.month, day.day, hour, minute, 59, 999_999, zone)
    utc = at.astimezone(UTC)
    if (utc.hour, utc.minute) != (23, 59):
        raise ValueError("a leap second is the last of a day in UTC")
    return at


def _clock(match: re.Match[str]) -> Clock:
    microsecond = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    return hour, minute, second, microsecond


def _date(match: re.Match[str]) -> date:
    if match["iso_date"] is not None:
        return date.fromisoformat(match["iso_date"])
    month = _MONTHS.index(match["month"]) + 1
    day = date(int(match["year"]), month, int(match["day"]))
    if match["weekday"] not in (None, _WEEKDAYS[day.weekday()]):
        raise ValueError(f"that day is no {match['weekday'].title()}")
    return day


def _stated_zone(match: re.Match[str]) -> tzinfo | None:
    """Return the zone that the text states as an offset or as UTC; None where it states none."""
    offset = match["offset"] or match["from_utc"]
    zone = None if offset is None else _fixed_zone(offset)
    if match["again"] is not None and zone != UTC:
        raise ValueError("an offset other than zero beside UTC")
    return zone or (None if match["utc"] is None else UTC)


def _fixed_zone(offset: str) -> timezone:
    digits = offset[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if minutes > 59 or seconds > 59:
        raise ValueError(f"{offset} is no offset")
    length = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-length if offset[0] == "-" else length)


def _named_zone(name: str) -> tzinfo:
    offset = _BRACKETED_OFFSET.fullmatch(name)
    if offset is not None:
        return _fixed_zone(offset["offset"])
    if name in ("Z", "UTC", "GMT"):
        return UTC
    if name.partition("/")[0] in _NO_ZONES:
        raise ValueError(f"no time zone {name}")
    try:
        return ZoneInfo(name)
    except (KeyError, OSError) as error:
        raise ValueError(f"no time zone {name}") from error


def _check_agreement(at: datetime, named: tzinfo) -> None:
    if at.astimezone(named).utcoffset() != at.utcoffset():
        raise ValueError(f"the offset is not that of {named} at this time")
