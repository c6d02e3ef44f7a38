"""skops files: a zip whose schema names classes, attributes and arrays in JSON. Nothing of it is made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract import zips
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, shown

MAX_SCHEMA_BYTES = 64 * 2**20
_MAX_CLASSES = 200


def read(folder: ModelFolder, name: str) -> Extracted:
    """Estimators, steps, features and classes of the file."""
    with zips.opened(folder, name) as archive:
        text = archive.content("schema.json", MAX_SCHEMA_BYTES)
        try:
            schema = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ExtractionFailed(f"schema.json in {shown(name)} is no JSON: {error}") from None
        if not isinstance(schema, dict) or "__class__" not in schema:
            raise ExtractionFailed(f"schema.json in {shown(name)} describes no object")
        extras = {"serialization": "skops", "skopsVersion": str(schema.get("_skops_version", ""))}
        extras |= _described(schema, archive)
    layers, versions, trusted = _counted(schema)
    version = versions.pop() if len(versions) == 1 else ""
    return Extracted(
        "SKLearn",
        "scikit-learn",
        version,
        layers=layers,
        extras={**extras, "classes": trusted},
        absent=(
            "inputs and outputs by name: an estimator takes an array of features, whose number is told",
            "parameters: what an estimator learned is not told apart from what it was given",
            *(() if version else ("the scikit-learn version: not in the file",)),
        ),
    )


def _nodes(root: Any) -> Iterator[dict[str, Any]]:
    """All nodes of the schema, which a file can nest but not tie into a cycle."""
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("__class__"), str) and isinstance(item.get("__module__"), str):
                yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _counted(schema: dict[str, Any]) -> tuple[dict[str, int], set[str], list[str]]:
    """Estimators by class, the versions of scikit-learn that are named, and all classes but Python's own."""
    layers: Counter[str] = Counter()
    versions: set[str] = set()
    names: set[str] = set()
    seen: set[Any] = set()
    for node in _nodes(schema):
        module, kind = node["__module__"], node["__class__"]
        if module != "builtins":
            names.add(f"{module}.{kind}")
            version = _plain(_attributes(node).get("_sklearn_version"))
        else:  # a dict of attributes, seen once more
            version = None
        identity = str(node.get("__id__"))
        if isinstance(version, str) and identity not in seen:
            seen.add(identity)
            versions.add(version)
            layers[kind] += 1
    return dict(layers), versions, sorted(names)[:_MAX_CLASSES]


def _attributes(node: Any) -> dict[str, Any]:
    """The attributes of an object's node."""
    content = node.get("content") if isinstance(node, dict) else None
    if isinstance(content, dict) and content.get("__class__") == "dict":
        content = content.get("content")
    return content if isinstance(content, dict) else {}


def _plain(node: Any) -> Any:
    """The number or text of a node that holds one; None of all others."""
    if (
        not isinstance(node, dict)
        or node.get("is_json") is not True
        or not isinstance(node.get("content"), str)
    ):
        return None
    try:
        value = json.loads(node["content"])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (int, float, str)) else None


def _described(schema: dict[str, Any], archive: zips.Archive) -> dict[str, Any]:
    """Steps of a pipeline; features that go in; how many classes come out."""
    steps = _steps(schema)
    ends = [node for _, node in steps] or [schema]
    found: dict[str, Any] = {"class": schema["__class__"]}
    if steps:
        found["steps"] = [{"name": name, "class": node.get("__class__", "")} for name, node in steps]
    features = _plain(_attributes(ends[0]).get("n_features_in_"))
    found |= {"features": features} if isinstance(features, int) else {}
    classes = _attributes(ends[-1]).get("classes_")
    if isinstance(classes, dict) and isinstance(classes.get("file"), str):
        shape = _array_shape(archive, classes["file"])
        found |= {"numClasses": shape[0]} if len(shape) == 1 else {}
    return found


def _steps(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and estimator of a pipeline's steps."""
    listed = _attributes(schema).get("steps")
    pairs = listed.get("content") if isinstance(listed, dict) else None
    found = []
    for pair in pairs if isinstance(pairs, list) else ():
        parts = pair.get("content") if isinstance(pair, dict) else None
        if isinstance(parts, list) and len(parts) == 2 and isinstance(parts[1], dict):
            found.append((str(_plain(parts[0])), parts[1]))
    return found


def _array_shape(archive: zips.Archive, name: str) -> tuple[int, ...]:
    """The shape in the header of a .npy entry; () when it is none."""
    with archive.opened(name) as entry:
        header = entry.read(1024)
    _, found, rest = header.partition(b"'shape': (")
    numbers = rest.partition(b")")[0].split(b",") if found else []
    parts = [part.strip() for part in numbers if part.strip()]
    return (
        tuple(int(part) for part in parts) if all(part.isdigit() and len(part) < 19 for part in parts) else ()
    )
