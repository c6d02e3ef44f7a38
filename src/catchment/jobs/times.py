"""Times as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return _told(seconds, "milliseconds")


def micro_time(seconds: float) -> str:
    """Seconds since the epoch as Kubernetes' MicroTime: its clients take six digits and no others."""
    return _told(seconds, "microseconds")


def _told(seconds: float, digits: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=digits).replace("+00:00", "Z")


def rfc3339_or_none(seconds: float | None) -> str | None:
    """`rfc3339`, or None for a moment that has not come."""
    return None if seconds is None else rfc3339(seconds)
