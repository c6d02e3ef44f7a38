"""Exit codes of the `catchment` command."""

from __future__ import annotations

from catchment.errors import CatchmentError, NotFound, Unreachable

FINE = 0
FAILED = 1
"""Refused or failed; also a watched job that ended FAILED or STOPPED."""
USAGE = 2
NOT_FOUND = 3
UNREACHABLE = 4
INTERRUPTED = 130


def exit_code(error: CatchmentError) -> int:
    """The exit code that says what kind of error it was."""
    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, Unreachable):
        return UNREACHABLE
    return FAILED
