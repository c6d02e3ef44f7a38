"""Renders kustomizations without kubectl: as much of Kustomize as deployments/kubernetes uses, and no more.

What it does not know, it refuses; a test compares it with kubectl where there is one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
KNOWN = {
    *("apiVersion", "kind", "resources", "components", "configMapGenerator", "generatorOptions"),
    *("images", "replicas", "patches"),
}


def render(folder: Path) -> list[Object]:
    """All objects of a kustomization's folder."""
    objects: list[Object] = []
    _build(folder, objects)
    return objects


def _build(folder: Path, objects: list[Object]) -> None:
    """Add a folder's objects to those there are, then change them as it says."""
    spec = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(spec) - KNOWN
    assert not unknown, f"{folder}: the loader of the tests does not know {unknown}"
    for name in spec.get("resources", []):
        path = (folder / name).resolve()
        if path.is_dir():
            _build(path, objects)
        else:
            objects += [found for found in yaml.safe_load_all(path.read_text()) if found]
    for name in spec.get("components", []):
        _build((folder / name).resolve(), objects)
    if "configMapGenerator" in spec:
        assert spec["generatorOptions"] == {"disableNameSuffixHash": True}, "there are no hashes here"
    for generator in spec.get("configMapGenerator", []):
        _generate(folder, generator, objects)
    for patch in spec.get("patches", []):
        _patch(patch, objects)
    for wanted in spec.get("replicas", []):
        found = [each for each in objects if each["metadata"]["name"] == wanted["name"]]
        for each in found:
            if each["kind"] in ("Deployment", "StatefulSet"):
                each["spec"]["replicas"] = wanted["count"]
    for image in spec.get("images", []):
        for container in (each for found in objects for each in containers(found)):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"


def _generate(folder: Path, generator: Object, objects: list[Object]) -> None:
    data: dict[str, str] = {}
    for name in generator.get("envs", []):
        lines = (folder / name).read_text().splitlines()
        data |= _pairs(line for line in lines if line and not line.startswith("#"))
    for name in generator.get("files", []):
        data[name] = (folder / name).read_text()
    data |= _pairs(generator.get("literals", []))
    place = {"name": generator["name"], "namespace": generator["namespace"]}
    there = [each for each in objects if each["kind"] == "ConfigMap" and each["metadata"] == place]
    assert bool(there) == (generator.get("behavior") == "merge"), generator["name"]
    if there:
        there[0]["data"] |= data
    else:
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": data})


def _pairs(lines: Any) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def _patch(patch: Object, objects: list[Object]) -> None:
    """A JSON patch (RFC 6902: add, replace, remove) on the objects of a kind and name."""
    target = patch["target"]
    found = [
        each
        for each in objects
        if each["kind"] == target["kind"]
        and each["metadata"]["name"] == target.get("name", each["metadata"]["name"])
    ]
    assert found, f"nothing is {target}"
    for each in found:
        for operation in yaml.safe_load(patch["patch"]):
            _operate(each, operation)


def _operate(place: Any, operation: Object) -> None:
    *path, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
    for step in path:
        place = place[int(step) if isinstance(place, list) else step]
    value = copy.deepcopy(operation.get("value"))
    if isinstance(place, list):
        index = len(place) if last == "-" else int(last)
        {
            "add": lambda: place.insert(index, value),
            "replace": lambda: place.__setitem__(index, value),
            "remove": lambda: place.pop(index),
        }[operation["op"]]()
        return
    assert operation["op"] == "add" or last in place, f"{operation['path']} is not there"
    if operation["op"] == "remove":
        del place[last]
    else:
        place[last] = value


def pod(found: Object) -> Object | None:
    """The pod spec of an object that runs pods, else None."""
    spec = found.get("spec", {})
    if found["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if found["kind"] in ("Deployment", "StatefulSet", "Job", "CronJob"):
        return dict(spec["template"]["spec"]) if "template" in spec else None
    return spec if found["kind"] == "Pod" else None


def containers(found: Object) -> list[Object]:
    """The containers of an object that runs pods, the initial ones first."""
    spec = pod(found) or {}
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def key(found: Object) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    meta = found["metadata"]
    return found["kind"], meta.get("namespace", ""), meta["name"]


def running(objects: list[Object]) -> list[Object]:
    """The objects that run pods."""
    return [found for found in objects if pod(found) is not None]
