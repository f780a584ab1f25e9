"""Times as text in the forms that ``datetime.fromisoformat`` does not read, each with one meaning.

| form | example |
|---|---|
| UTC beside an offset of zero | ``2026-11-20T10:00:00+00:00Z`` |
| UTC as a word, an offset behind it | ``2026-11-20 10:00:00 UTC``, ``... GMT+07:00`` |
| a zone in brackets, as Java and RFC 9557 write it | ``...+07:00[Asia/Ho_Chi_Minh]`` |
| RFC 1123 | ``Fri, 20 Nov 2026 10:00:00 GMT``, ``... +0000 (UTC)`` |
| the year last, as Java's ``Date`` writes it | ``Fri Nov 20 10:00:00 UTC 2026`` |
| JavaScript's ``toString`` | ``Fri Nov 20 2026 17:00:00 GMT+0700 (Indochina Time)`` |
| the end of a day | ``2026-11-20T24:00:00Z`` |
| a leap second | ``2016-12-31T23:59:60Z`` |
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

Fields: TypeAlias = dict[str, Any]
"""The named pieces of a text; None where it has none."""
Clock: TypeAlias = tuple[int, int, int, int]
"""Hour, minute, second and microsecond."""

MAX_CHARACTERS: Final = 100

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_OFFSET = r"[+-][0-9]{2}(?::?[0-9]{2}){0,2}"
# Behind a word, people write GMT+7.
_OFFSET_FROM_UTC = rf"(?:{_OFFSET}|[+-][0-9](?::[0-9]{{2}})?)"
_UTC = "(?:Z|UTC|GMT|UT)"
_WEEKDAY, _MONTH = f"(?P<weekday>{'|'.join(_WEEKDAYS)})", f"(?P<month>{'|'.join(_MONTHS)})"
_DAY, _YEAR = "(?P<day>[0-9]{1,2})", "(?P<year>[0-9]{4})"
_DATES = (
    "(?P<iso_date>[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})[T ]",
    f"(?:{_WEEKDAY}, )?{_DAY} {_MONTH} {_YEAR} ",
    f"{_WEEKDAY} {_MONTH} {_DAY} {_YEAR} ",
)
_CLOCK = (
    r"(?P<hour>[0-9]{2})(?::?(?P<minute>[0-9]{2})"
    r"(?::?(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,12}))?)?)?"
)
# Either UTC as a word and perhaps an offset from it, or an offset and perhaps UTC as a word.
_ZONE = (
    rf"(?: ?(?:(?P<utc>{_UTC})(?P<from_utc>{_OFFSET_FROM_UTC}| [+-]00:?00)?"
    rf"|(?P<offset>{_OFFSET})(?: ?(?P<again>{_UTC}))?)"
    # A name of the zone that the offset has told already.
    r"(?: \([^()]{1,60}\))?)?"
)
_FORMS = [re.compile(date + _CLOCK + _ZONE) for date in _DATES]
# Some pad the day with a space. The zone must be there.
_FORMS.append(re.compile(rf"{_WEEKDAY} {_MONTH}  ?{_DAY} {_CLOCK} (?=[A-Z+-]){_ZONE} {_YEAR}"))
_BRACKETS = re.compile(r"(?P<rest>[^\[\]]+?) ?\[!?(?P<zone>[A-Za-z0-9_+\-/:]{1,64})\]")
_BRACKETED_OFFSET = re.compile(
    rf"(?P<offset>{_OFFSET})|(?:UTC|GMT)(?P<from_utc>{_OFFSET_FROM_UTC})"
)
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
    plain = rest.upper().replace("\N{MINUS SIGN}", "-")
    match = next((found for form in _FORMS if (found := form.fullmatch(plain))), None)
    if match is None:
        raise ValueError("no form that is read")
    fields = match.groupdict()
    stated = _stated_zone(fields)
    at = moment(_date(fields), _clock(fields), stated or named or zone)
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


def _clock(fields: Fields) -> Clock:
    microsecond = int((fields["fraction"] or "0")[:6].ljust(6, "0"))
    hour, minute, second = (int(fields[name] or 0) for name in ("hour", "minute", "second"))
    return hour, minute, second, microsecond


def _date(fields: Fields) -> date:
    if "iso_date" in fields:
        return date.fromisoformat(fields["iso_date"])
    month = _MONTHS.index(fields["month"]) + 1
    day = date(int(fields["year"]), month, int(fields["day"]))
    if fields["weekday"] not in (None, _WEEKDAYS[day.weekday()]):
        raise ValueError(f"that day is no {fields['weekday'].title()}")
    return day


def _stated_zone(fields: Fields) -> tzinfo | None:
    """Return the zone that the text states as an offset or as UTC; None where it states none."""
    offset = fields["offset"] or fields["from_utc"]
    zone = None if offset is None else _fixed_zone(offset.strip())
    is_utc = fields["again"] is not None or fields["utc"] == "Z"
    if is_utc and zone not in (None, UTC):
        raise ValueError("an offset other than zero beside UTC")
    return zone or (None if fields["utc"] is None else UTC)


def _fixed_zone(offset: str) -> timezone:
    hours_text = offset[1:].partition(":")[0]
    digits = offset[1:].replace(":", "")
    digits = (f"0{digits}" if len(hours_text) == 1 else digits).ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if minutes > 59 or seconds > 59:
        raise ValueError(f"{offset} is no offset")
    length = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-length if offset[0] == "-" else length)


def _named_zone(name: str) -> tzinfo:
    offset = _BRACKETED_OFFSET.fullmatch(name)
    if offset is not None:
        return _fixed_zone(offset["offset"] or offset["from_utc"])
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
