"""The custom resources of servings and deployments, as definitions made of this project's own schemas."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import ROOT, wait_until
from tests.deployments.schemas import CUSTOM
from tests.kubernetes_double.problems import Problem
from tests.kubernetes_double.resources import Resource
from tests.real_kubernetes.remote import RemoteObjects

SCHEMAS = ROOT / "tests/library/serving/manifests/schemas"
DEFINED = ("httproutes", "gateways", "inferenceservices", "seldondeployments")
WHERE = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_KEPT = (
    *("type", "enum", "pattern", "format", "required"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"),
)


def install(objects: RemoteObjects) -> None:
    """Define them, and wait until they are served."""
    for plural in DEFINED:
        definition = define(objects.resource(plural))
        name = definition["metadata"]["name"]
        objects.ask("POST", WHERE, definition)

        def served(name: str = name, plural: str = plural) -> bool:
            conditions = objects.ask("GET", f"{WHERE}/{name}").get("status", {}).get("conditions") or []
            wrong = [each for each in conditions if each["type"] == "NonStructuralSchema"]
            assert not wrong, wrong
            try:
                objects.list(objects.resource(plural), "default")
            except Problem as problem:
                if problem.code != 404:
                    raise
                return False
            return True

        wait_until(served, timeout_s=30, what=f"{plural} to be served")


def define(resource: Resource) -> dict[str, Any]:
    """A CustomResourceDefinition."""
    known = [SCHEMAS / f"{resource.kind}.json"]
    schemas = [json.loads(path.read_text()) for path in known if path.is_file()]
    schemas += [CUSTOM[resource.kind]] if resource.kind in CUSTOM else []
    spec = structural(schemas[0]["properties"]["spec"])
    for other in schemas[1:]:
        spec = either(spec, structural(other["properties"]["spec"]))
    shape = {"type": "object", "properties": {"spec": spec, "status": ANYTHING}, "required": ["spec"]}
    version = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": shape},
        "subresources": {"status": {}} if resource.status else {},
    }
    names = {"plural": resource.plural, "singular": resource.kind.lower(), "kind": resource.kind}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": resource.qualified,
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {"group": resource.group, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def structural(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema as definitions may have it: what an object does not name is pruned without more ado."""
    made = {key: schema[key] for key in _KEPT if schema.get(key) not in (None, [])}
    if "const" in schema:
        made["enum"] = [schema["const"]]
    if isinstance(made.get("type"), list):
        del made["type"]
        return {**made, "x-kubernetes-int-or-string": True}
    made.setdefault("type", "string")
    if "items" in schema:
        made["items"] = structural(schema["items"])
    if "properties" in schema:
        made["properties"] = {name: structural(each) for name, each in schema["properties"].items()}
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = structural(schema["additionalProperties"])
    elif made["type"] == "object":
        made["x-kubernetes-preserve-unknown-fields"] = True
    return made


def either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What one or the other schema knows; where both say something of a value, the first one holds."""
    made = dict(one)
    if "items" in one and "items" in other:
        made["items"] = either(one["items"], other["items"])
    if "properties" in one and "properties" in other:
        shared = one["properties"].keys() & other["properties"].keys()
        both = {name: either(one["properties"][name], other["properties"][name]) for name in shared}
        made["properties"] = {**other["properties"], **one["properties"], **both}
        required = [name for name in one.get("required", []) if name in other.get("required", [])]
        made = {key: value for key, value in made.items() if key != "required"}
        made |= {"required": required} if required else {}
    return made
