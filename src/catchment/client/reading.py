"""Reading what the server answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from catchment.errors import Unreachable


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Within it, what is missing from an answer or of another kind means that no Catchment server gave it.

    Raises:
        Unreachable: names what was to be read.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreachable(
            f"the server's answer is no {what} of a Catchment server: {type(error).__name__} {error}"
        ) from None
