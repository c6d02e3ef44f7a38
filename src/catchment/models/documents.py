"""JSON and YAML of unknown origin as plain trees, in bounded time and memory.

Scalars stay as they are spelled: whether `0.9` is a number or a text, the reader of the tree knows better
than YAML's rules, which make a boolean of a tensor named `on`.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeAlias

import yaml

from catchment.errors import BadArtifact

MAX_JSON_BYTES = 8 * 2**20
MAX_YAML_BYTES = 2**20
_MAX_DEPTH = 32

Tree: TypeAlias = "str | bool | list[Tree] | dict[str, Tree] | None"


_NULL = [(tag, regexp) for tag, regexp in yaml.CSafeLoader.yaml_implicit_resolvers["~"]]


class _Loader(yaml.CSafeLoader):
    """YAML whose plain scalars are texts, but for null."""

    yaml_implicit_resolvers = dict.fromkeys(("~", "n", "N", ""), _NULL)


def read_json(data: bytes, what: str) -> dict[str, Tree]:
    """The object that `data` holds; numbers as they are spelled.

    Args:
        data: UTF-8.
        what: names the document in errors.

    Raises:
        BadArtifact: it is too large, no JSON, or no object.
    """
    _check_size(data, MAX_JSON_BYTES, what)

    def refuse(constant: str) -> NoReturn:
        raise BadArtifact(f"{what} holds {constant}, which is no JSON")

    try:
        tree = json.loads(data.decode(), parse_int=str, parse_float=str, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadArtifact(f"{what} is no JSON: {_short(error)}") from error
    return _object(tree, what)


def read_yaml(data: bytes, what: str) -> dict[str, Tree]:
    """The mapping that `data` holds; an empty document is an empty mapping.

    Aliases are refused, since a few lines of them unfold to gigabytes, and so are tags.

    Raises:
        BadArtifact: it is too large, no YAML, or no mapping.
    """
    _check_size(data, MAX_YAML_BYTES, what)
    try:
        text = data.decode()
        _check_events(text, what)
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, made safer
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadArtifact(f"{what} is no YAML: {_short(error)}") from error
    return _object({} if tree is None else tree, what)


def _check_events(text: str, what: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise BadArtifact(
                f"{what} uses YAML anchors or aliases, which are not taken; write the values out"
            )
        if (tag := getattr(event, "tag", None)) is not None:
            raise BadArtifact(f"{what} uses the YAML tag {tag!r}, tags are not taken")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise BadArtifact(f"{what} is nested more than {_MAX_DEPTH} deep")


def repeated_key(text: str) -> str:
    """The path of the first key that a mapping holds twice, such as `spec.model`; "" where none does.

    YAML readers keep the last of the two without a word.

    Raises:
        yaml.YAMLError: the text is no YAML.
    """
    holders: list[_Holder] = []
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        ends = isinstance(event, yaml.CollectionEndEvent)
        if ends:
            holders.pop()
        elif isinstance(event, yaml.NodeEvent) and holders and holders[-1].wants_key:
            key = str(getattr(event, "value", "?"))
            if isinstance(event, yaml.ScalarEvent) and key in holders[-1].keys:
                return ".".join([*(each.at for each in holders[:-1]), key])
            holders[-1].begin(key)
        if isinstance(event, yaml.CollectionStartEvent):
            holders.append(_Holder(isinstance(event, yaml.MappingStartEvent)))
        elif holders and (ends or isinstance(event, yaml.NodeEvent)):
            holders[-1].go_on()
    return ""


class _Holder:
    """A mapping or a list that is being read: which keys it had, and at which one it is."""

    def __init__(self, is_mapping: bool) -> None:
        self.is_mapping = is_mapping
        self.wants_key = is_mapping
        self.keys: set[str] = set()
        self.at = "" if is_mapping else "0"

    def begin(self, key: str) -> None:
        self.keys.add(key)
        self.at = key

    def go_on(self) -> None:
        """A key, or a value, has ended."""
        if self.is_mapping:
            self.wants_key = not self.wants_key
        else:
            self.at = str(int(self.at) + 1)


def _check_size(data: bytes, limit: int, what: str) -> None:
    if len(data) > limit:
        raise BadArtifact(f"{what} is {len(data)} bytes, {limit} are allowed")


def _object(tree: Any, what: str) -> dict[str, Tree]:
    if not isinstance(tree, dict):
        raise BadArtifact(f"{what} is a {type(tree).__name__}, an object with named fields is expected")
    return {str(key): value for key, value in tree.items()}


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
