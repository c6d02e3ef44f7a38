"""What sites send in free form, made fit for every database."""

from __future__ import annotations

import math
from typing import Any

MAX_INTEGER = 2**63
"""A site's metrics may hold integers of any length; who averages them would overflow."""


def storable(value: Any) -> Any:
    """`value` without what no database takes: NaN, infinities and giant integers become words, NUL goes."""
    match value:
        case str():
            return value.replace("\x00", "")
        case float() if not math.isfinite(value):
            return str(value)
        case int() if abs(value) > MAX_INTEGER:
            return f"an integer of {value.bit_length()} bits"
        case dict():
            return {storable(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case _:
            return value
