"""Patches: JSON merge, JSON patch, and strategic merge with the list keys of the built-in kinds."""

from __future__ import annotations

import copy
from typing import Any

from tests.kubernetes_double.problems import Problem

MERGE_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "tolerations": (),
}
"""By the list's name: what names an entry of it. Lists that are not here are replaced as a whole."""


def keys_of(name: str, parent: str, custom: bool) -> tuple[str, ...]:
    """What names the entries of a list; () when the list is one value."""
    if custom and parent != "metadata":
        return ()
    if name == "ports":
        return ("port", "protocol") if parent == "spec" else ("containerPort", "protocol")
    return MERGE_KEYS.get(name, ())


def entry_key(entry: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """An entry's name in its list."""
    missing = [key for key in keys if key not in entry and key != "protocol"]
    if missing:
        raise Problem(422, f"list entry lacks its key {missing[0]!r}: {entry}")
    return tuple(entry.get(key, "TCP" if key == "protocol" else None) for key in keys)


def merge(live: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(live) if isinstance(live, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def strategic(live: Any, patch: Any, name: str = "", parent: str = "") -> Any:
    """Like `merge`, with lists of named entries merged by name; `$patch: delete` removes an entry."""
    if isinstance(patch, list) and isinstance(live, list) and (keys := keys_of(name, parent, False)):
        return _list(live, patch, keys, name)
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif not key.startswith("$"):
            result[key] = strategic(result.get(key), value, key, name)
    return result


def _list(live: list[Any], patch: list[Any], keys: tuple[str, ...], name: str) -> list[Any]:
    result = {entry_key(entry, keys): entry for entry in live}
    for entry in patch:
        key = entry_key(entry, keys)
        if entry.get("$patch") == "delete":
            result.pop(key, None)
        else:
            result[key] = strategic(result.get(key), entry, "", name)
    return list(result.values())


def json_patch(live: Any, operations: Any) -> Any:
    """RFC 6902, all of its operations but `copy`."""
    if not isinstance(operations, list):
        raise Problem(400, "a JSON patch is a list of operations")
    result = copy.deepcopy(live)
    for operation in operations:
        kind, path = operation.get("op"), operation.get("path", "")
        if kind == "move":
            value = _take(result, operation["from"])
            _put(result, path, value, insert=True)
        elif kind in ("add", "replace"):
            _put(result, path, copy.deepcopy(operation["value"]), insert=kind == "add")
        elif kind == "remove":
            _take(result, path)
        elif kind == "test":
            if _at(result, path) != operation.get("value"):
                raise Problem(422, f"the server rejected our request: testing path {path} failed")
        else:
            raise Problem(400, f"unknown JSON patch operation {kind!r}")
    return result


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _at(found: Any, path: str) -> Any:
    for step in _steps(path):
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (LookupError, ValueError, TypeError):
            raise Problem(422, f"the server rejected our request: no {path} in the object") from None
    return found


def _parent(found: Any, path: str) -> tuple[Any, str]:
    head, _, last = path.rpartition("/")
    return _at(found, head), last.replace("~1", "/").replace("~0", "~")


def _put(found: Any, path: str, value: Any, *, insert: bool) -> None:
    parent, last = _parent(found, path)
    if not isinstance(parent, list):
        if not insert and last not in parent:
            raise Problem(422, f"the server rejected our request: replace of missing {path}")
        parent[last] = value
    elif last == "-":
        parent.append(value)
    elif insert:
        parent.insert(int(last), value)
    else:
        parent[int(last)] = value


def _take(found: Any, path: str) -> Any:
    value = _at(found, path)
    parent, last = _parent(found, path)
    del parent[int(last) if isinstance(parent, list) else last]
    return value
