"""Server-side apply: who owns which field, what conflicts, what is removed."""

from __future__ import annotations

import copy
import json
from typing import Any, Literal, NamedTuple

from tests.kubernetes_double import merging
from tests.kubernetes_double.problems import Problem

Path = tuple[str, ...]


class Manager(NamedTuple):
    """Who owns fields. Who applies and who writes otherwise are two, also where they have one name."""

    name: str
    operation: Literal["Apply", "Update"]

    def words(self, api_version: str) -> str:
        """For messages."""
        return f'"{self.name}"' + (f" using {api_version}" if self.operation == "Update" else "")


Owners = dict[Manager, set[Path]]
"""Paths of the leaves that each owns."""
_NEVER = {
    ("f:apiVersion",),
    ("f:kind",),
    *(("f:metadata", f"f:{name}") for name in ("name", "namespace", "uid", "resourceVersion", "generation")),
    *(("f:metadata", f"f:{name}") for name in ("creationTimestamp", "managedFields", "deletionTimestamp")),
}


def leaves(found: Any, custom: bool) -> dict[Path, Any]:
    """Each leaf's path and value; an entry of a named list is a leaf too, of value {}."""
    result: dict[Path, Any] = {}
    _walk(found, (), "", "", custom, result)
    return {
        path: value for path, value in result.items() if path[:2] not in _NEVER and path[:1] not in _NEVER
    }


def _walk(at: Any, path: Path, name: str, parent: str, custom: bool, result: dict[Path, Any]) -> None:
    if isinstance(at, dict) and at:
        for key, value in at.items():
            _walk(value, (*path, f"f:{key}"), key, name, custom, result)
        return
    keys = merging.keys_of(name, parent, custom) if isinstance(at, list) else ()
    if not (keys and at):
        result[path] = at
        return
    for entry in at:
        key = json.dumps(dict(zip(keys, merging.entry_key(entry, keys), strict=True)), sort_keys=True)
        result[(*path, f"k:{key}")] = {}
        for each, value in entry.items():
            _walk(value, (*path, f"k:{key}", f"f:{each}"), each, "", custom, result)


def apply(
    live: dict[str, Any], owners: Owners, applied: dict[str, Any], name: str, *, force: bool, custom: bool
) -> dict[str, Any]:
    """The object after a manager's apply; `owners` is changed to match.

    Raises:
        Problem: 409, another manager owns a field and has set it to another value.
    """
    manager = Manager(name, "Apply")
    wanted, now = leaves(applied, custom), leaves(live, custom)
    clashing = {
        other: sorted(path for path in paths & wanted.keys() if now.get(path) != wanted[path])
        for other, paths in owners.items()
        if other != manager
    }
    clashing = {other: paths for other, paths in clashing.items() if paths}
    if clashing and not force:
        raise _conflict(clashing, live["apiVersion"])
    for other, paths in clashing.items():
        owners[other] -= set(paths)
    result = copy.deepcopy(live)
    owned_by_others = set().union(*(paths for other, paths in owners.items() if other != manager), set())
    gone = owners.get(manager, set()) - wanted.keys() - owned_by_others
    for path in gone:
        # An entry that goes takes its fields with it.
        if not any(path[:depth] in gone for depth in range(1, len(path))):
            _remove(result, path)
    for path, value in wanted.items():
        _set(result, path, value)
    owners[manager] = set(wanted)
    return result


def updated(
    before: dict[str, Any], after: dict[str, Any], owners: Owners, manager: Manager, custom: bool
) -> None:
    """Note who owns what after a write: what it changed belongs to its manager."""
    old, new = leaves(before, custom), leaves(after, custom)
    changed = {path for path, value in new.items() if old.get(path, _ABSENT) != value}
    gone = old.keys() - new.keys()
    for paths in owners.values():
        paths.difference_update(changed | gone)
    owners.setdefault(manager, set()).update(changed)


_ABSENT = object()


def _conflict(clashing: dict[Manager, list[Path]], api_version: str) -> Problem:
    named = {other.words(api_version): [*map(_words, paths)] for other, paths in sorted(clashing.items())}
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {other}", "field": path}
        for other, paths in named.items()
        for path in paths
    ]
    if len(causes) == 1:
        told = f"1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = [
            line
            for other, paths in named.items()
            for line in (f"conflicts with {other}:", *(f"- {path}" for path in paths))
        ]
        told = f"{len(causes)} conflicts: " + "\n".join(lines)
    return Problem(409, f"Apply failed with {told}", causes=causes)


def _words(path: Path) -> str:
    return "".join(f".{step[2:]}" if step.startswith("f:") else f"[{step[2:]}]" for step in path)


def _entry(found: list[Any], step: str, make: bool) -> Any:
    key = json.loads(step[2:])
    for entry in found:
        if merging.entry_key(entry, tuple(key)) == tuple(key.values()):
            return entry
    if make:
        found.append(dict(key))
        return found[-1]
    return None


def _set(found: Any, path: Path, value: Any) -> None:
    for step, following in zip(path, (*path[1:], ""), strict=True):
        if step.startswith("k:"):
            found = _entry(found, step, make=True)
        elif not following:
            found[step[2:]] = copy.deepcopy(value)
        else:
            kind = list if following.startswith("k:") else dict
            if not isinstance(found.get(step[2:]), kind):
                found[step[2:]] = kind()
            found = found[step[2:]]


def _remove(found: Any, path: Path) -> None:
    for step in path[:-1]:
        found = _entry(found, step, make=False) if step.startswith("k:") else found.get(step[2:])
        if found is None:
            return
    if path[-1].startswith("f:"):
        found.pop(path[-1][2:], None)
    elif (entry := _entry(found, path[-1], make=False)) is not None:
        found.remove(entry)


def managed_fields(owners: Owners, api_version: str, time: str) -> list[dict[str, Any]]:
    """`metadata.managedFields` as the server shows it."""
    shown = []
    for manager, paths in sorted(owners.items()):
        fields: dict[str, Any] = {}
        for path in sorted(paths):
            at = fields
            for step in path:
                at = at.setdefault(step, {})
        named = {"manager": manager.name, "operation": manager.operation}
        told = {**named, "apiVersion": api_version, "time": time}
        shown.append({**told, "fieldsType": "FieldsV1", "fieldsV1": fields})
    return shown
