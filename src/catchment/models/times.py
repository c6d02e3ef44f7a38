"""Times as Go writes them: RFC 3339 with up to nine digits of a second, which `datetime` cannot hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime

UNSET = "0001-01-01T00:00:00Z"
"""Go's zero time: nobody said when."""
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


def canonical(text: str) -> str:
    """The same time as Go would write it: trailing zeros of the fraction dropped, `Z` for no offset.

    Raises:
        ValueError: it is no RFC 3339 time with a zone.
    """
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:60]!r} is no RFC 3339 time with a zone, such as 2021-03-09T09:38:13Z")
    day, clock, fraction, _, sign, hours, minutes = found.groups()
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        raise ValueError(f"{text[:60]!r} has no possible offset from UTC")
    try:
        datetime.fromisoformat(f"{day}T{clock}")
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is no time: {error}") from error
    fraction = (fraction or "").rstrip("0")
    zone = f"{sign}{hours}:{minutes}" if int(hours or 0) or int(minutes or 0) else "Z"
    return f"{day}T{clock}{'.' if fraction else ''}{fraction}{zone}"


def from_datetime(moment: datetime) -> str:
    """An aware moment in UTC, to the microsecond.

    Raises:
        ValueError: it has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone says nothing; give one with tzinfo")
    return canonical(moment.astimezone(UTC).isoformat())


def from_seconds(seconds: int) -> str:
    """Seconds since 1970 in UTC; what no calendar of Go's can show becomes 1970."""
    try:
        return from_datetime(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return from_datetime(datetime.fromtimestamp(0, UTC))
