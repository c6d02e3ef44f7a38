"""Amounts of resources in Kubernetes' spelling: `500m` processors, `512Mi` of memory."""

from __future__ import annotations

import re

from catchment.errors import InvalidField

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?(m|k|[KMGTPE]i|[MGTPE])?")
_FACTORS = {"m": 1e-3, "k": 1e3} | {
    letter + kind: base**power
    for power, letter in enumerate("KMGTPE", 1)
    for kind, base in (("i", 1024.0), ("", 1000.0))
    if letter + kind != "K"
}


def read_quantity(text: str, field: str) -> float:
    """The number that a quantity is: processors, or bytes.

    Raises:
        InvalidField: it is none.
    """
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None:
        raise InvalidField(field, f"{str(text)[:40]!r} must be a quantity such as 500m, 2 or 512Mi")
    number, exponent, suffix = found.groups()
    return float(number + (exponent or "")) * _FACTORS.get(suffix or "", 1.0)
