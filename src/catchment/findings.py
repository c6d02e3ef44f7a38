"""pydantic's findings in Catchment's words: one error that names the fields the way the user wrote them."""

from __future__ import annotations

import reprlib
from typing import Any

from pydantic import ValidationError

from catchment.errors import InvalidField


def invalid_field(error: ValidationError, inside: str = "") -> InvalidField:
    """pydantic's findings as one error that names the first field, and the others in its message.

    Args:
        error: what pydantic found.
        inside: dotted path of the object that was validated; "" for the whole body.
    """
    findings = [(_path(item["loc"], inside), _problem(item)) for item in error.errors(include_url=False)]
    distinct = list(dict.fromkeys(findings))
    field, problem = distinct[0]
    others = "; ".join(f"{path}: {text}" for path, text in distinct[1:10])
    return InvalidField(field, problem + (f"; {others}" if others else ""))


def _path(location: tuple[int | str, ...], inside: str) -> str:
    """The field's dotted path without pydantic's own markers of union members and dictionary keys."""
    markers = {"[key]", "bool", "int", "float", "str", "none", "register_"}
    parts = [str(part) for part in location if str(part) not in markers]
    return ".".join([*filter(None, [inside]), *parts]) or "body"


_SHORT = reprlib.Repr()
"""Shows the beginning of a value, whatever its size and depth."""
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80


def _problem(item: Any) -> str:
    match item["type"]:
        case "extra_forbidden":
            return "is not a field of this object"
        case "missing":
            return "is required"
        case "value_error":
            return str(item["ctx"]["error"])
        case _:
            return f"{item['msg']}, got {_SHORT.repr(item['input'])}"
