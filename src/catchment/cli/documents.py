"""Files in JSON or YAML that commands send on."""

from __future__ import annotations

import json
from typing import Any, TextIO

import yaml

from catchment.errors import Refused


def read_object(source: TextIO, what: str) -> dict[str, Any]:
    """The object in a file.

    Raises:
        Refused: it is neither JSON nor YAML, or no object.
    """
    try:
        text = source.read()
    except UnicodeDecodeError:
        raise Refused(f"{source.name}: {what} must be text in UTF-8") from None
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise Refused(f"{source.name}: {what} must be JSON or YAML: {error}") from None
    if not isinstance(found, dict):
        raise Refused(f"{source.name}: {what} must be an object, such as {{...}} in JSON")
    return found
