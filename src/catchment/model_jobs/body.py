"""The bytes that a ModelJob is sent as: JSON, or YAML as the document prints it."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import yaml

from catchment.errors import BadArtifact, InvalidField, TooLarge
from catchment.models import documents

MAX_DEPTH = 32
_NO_BLANK = re.compile(rb"^(apiVersion|kind):(?=[^\s])", re.MULTILINE)
"""As the document prints its example: YAML asks for a blank after the colon."""
_TAG = "tag:yaml.org,2002:"
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: a date is a text, and `1e-5` is a number."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the package's own name and kind
        first: [(tag, regexp) for tag, regexp in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(f"{_TAG}float", _EXPONENT, list("-+.0123456789"))


def read_body(raw: bytes, content_type: str) -> object:
    """The tree of a body: JSON where it is that, else YAML.

    Not all JSON is YAML, which reads escaped pairs of surrogates, tabs and numbers such as `1e-5` otherwise.

    Raises:
        InvalidField: it is none, gives a key twice, is nested too deeply, holds what JSON cannot, or uses
            what only YAML can (aliases, tags).
        TooLarge: it has more bytes than a document may.
    """
    if len(raw) > documents.MAX_YAML_BYTES:
        raise TooLarge(
            f"the body has more than {documents.MAX_YAML_BYTES} bytes, which is the most that is taken"
        )
    try:
        tree = json.loads(raw.decode(), object_pairs_hook=_Pairs, parse_constant=_no_number)
    except RecursionError:
        raise InvalidField("body", f"is nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:
        tree = _yaml(raw, content_type, str(error))
    return _plain(tree, "", 0)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written, keys that are given twice included."""


def _no_number(word: str) -> NoReturn:
    raise InvalidField("body", f"contains {word}, which is no number of JSON")


def _yaml(raw: bytes, content_type: str, no_json: str) -> object:
    text = _NO_BLANK.sub(rb"\1: ", raw)
    try:
        documents.read_yaml(text, "the body")
        if twice := documents.repeated_key(text.decode()):
            raise InvalidField(twice, "is given twice")
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (BadArtifact, yaml.YAMLError, ValueError) as error:
        why = f"no JSON, {no_json}; no YAML, {error}" if raw.lstrip()[:1] in (b"{", b"[") else str(error)
        raise InvalidField(
            "body", f"is no JSON and no YAML ({content_type or 'no Content-Type'}): {why}"
        ) from None


def _plain(value: Any, at: str, depth: int) -> Any:
    """The value in dictionaries and lists. Raises InvalidField at what JSON cannot say or no store keeps."""
    if depth > MAX_DEPTH:
        raise InvalidField("body", f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, (_Pairs, dict)):
        found: dict[str, Any] = {}
        for key, inner in value.items() if isinstance(value, dict) else value:
            path = f"{at}.{_text(str(key), at or 'body')}".lstrip(".")
            if str(key) in found:
                raise InvalidField(path, "is given twice")
            found[str(key)] = _plain(inner, path, depth + 1)
        return found
    if isinstance(value, list):
        return [_plain(each, f"{at}.{index}", depth + 1) for index, each in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidField(at or "body", f"is {value}, a finite number is expected")
    return _text(value, at or "body") if isinstance(value, str) else value


def _text(text: str, at: str) -> str:
    if "\x00" in text:
        raise InvalidField(at, "contains a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidField(at, "contains half a surrogate pair")
    return text
