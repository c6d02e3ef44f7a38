"""What the server refuses: names, labels, unknown fields, and what each kind asks for."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate

from tests.kubernetes_double.problems import Problem
from tests.kubernetes_double.resources import Resource

VERSION = "1.34"
"""Of the schemas that built-in objects are held against."""
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
NO_QUANTITY = "quantities must match the regular expression"
"""Such a value is not even read."""
_QUANTITY = re.compile(r"[0-9.]+(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?|[0-9.]+e[0-9]+")


def check(resource: Resource, found: dict[str, Any], *, strict: bool, applied: bool = False) -> None:
    """Refuse an object as the server does: 400 where it cannot be read, 422 where it cannot be.

    Args:
        strict: unknown fields are refused (`fieldValidation=Strict`); otherwise they only would be dropped.
        applied: by server-side apply, which has another word, and 500, for what it cannot read.
    """
    _readable(resource, found, strict, applied)
    problems = [*_metadata(resource, found), *_RULES.get(resource.kind, _nothing)(found)]
    if any(text == NO_QUANTITY for _, text in problems):
        raise _unconvertible(resource, applied)
    if problems:
        name = found["metadata"].get("name", "")
        causes = [
            {"reason": "FieldValueInvalid", "message": text, "field": field} for field, text in problems
        ]
        told = ", ".join(f"{field}: {text}" for field, text in problems)
        words = told if len(problems) == 1 else f"[{told}]"
        message = (
            f'{resource.kind}{"." + resource.group if resource.group else ""} "{name}" is invalid: {words}'
        )
        raise Problem(422, message, name=name, group=resource.group, kind=resource.kind, causes=causes)


def immutable(resource: Resource, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse changes of what may never change."""
    fixed = {"Deployment": ("selector",), "Job": ("template", "selector", "completions")}.get(
        resource.kind, ()
    )
    for name in fixed:
        if before["spec"].get(name) != after["spec"].get(name):
            message = f'{resource.kind}.{resource.group} "{after["metadata"]["name"]}" is invalid: '
            raise Problem(422, f"{message}spec.{name}: Invalid value: field is immutable")
    if resource.kind == "Secret" and before.get("immutable"):
        raise Problem(422, f'Secret "{after["metadata"]["name"]}" is invalid: data: field is immutable')


def _readable(resource: Resource, found: dict[str, Any], strict: bool, applied: bool) -> None:
    if resource.custom:
        return
    shown = {**found, "metadata": {k: v for k, v in found["metadata"].items() if k != "managedFields"}}
    try:
        kubernetes_validate.validate(shown, VERSION, strict=strict)
    except kubernetes_validate.ValidationError as error:
        if applied and error.validator in ("additionalProperties", "type"):
            raise _untypable(resource, found, error) from error
        kind = (
            "strict decoding error"
            if strict
            else f"{resource.kind} in version {resource.version!r} cannot be handled"
        )
        raise Problem(400, f"{kind}: {'.'.join(map(str, error.path))}: {error.message}") from error


def _untypable(resource: Resource, found: dict[str, Any], error: Any) -> Problem:
    metadata, at = found["metadata"], "".join(f".{step}" for step in error.path)
    if error.validator == "type":
        wanted = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
        told = f"{at}: expected {wanted[0]}, got {error.instance!r}"
    else:
        unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
        told = f"{at}.{unknown[0]}: field not declared in schema"
    about = f"{metadata.get('namespace', '')}/{metadata['name']}; {_gvk(resource)}"
    return Problem(500, f"failed to create typed patch object ({about}): {told}", "")


def _unconvertible(resource: Resource, applied: bool) -> Problem:
    if applied:
        to = f"{resource.api_version}, Kind={resource.kind}"
        failed = "failed to convert new object to proper version: unable to convert unstructured object to"
        return Problem(500, f"{failed} {to}: {NO_QUANTITY}", "")
    told = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
    return Problem(400, f"{told}: {NO_QUANTITY}")


def _gvk(resource: Resource) -> str:
    return f"{resource.group}/{resource.version}, Kind={resource.kind}"


def _metadata(resource: Resource, found: dict[str, Any]) -> list[tuple[str, str]]:
    metadata = found["metadata"]
    name, problems = metadata.get("name", ""), []
    plain = resource.kind in ("Service", "Namespace")
    if not (_LABEL if plain else _SUBDOMAIN).fullmatch(name) or len(name) > (63 if plain else 253):
        problems.append(
            ("metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 name must consist of ...')
        )
    for each, value in (metadata.get("labels") or {}).items():
        if not isinstance(value, str) or len(value) > 63 or not _VALUE.fullmatch(value):
            problems.append(
                ("metadata.labels", f'Invalid value: "{value}": not a valid label value ({each})')
            )
    return problems


def _nothing(_: dict[str, Any]) -> list[tuple[str, str]]:
    return []


def _pod_spec(spec: dict[str, Any], at: str) -> list[tuple[str, str]]:
    problems, names, volumes = [], set(), {each["name"] for each in spec.get("volumes") or []}
    if not spec.get("containers"):
        problems.append((f"{at}.containers", "Required value"))
    for part in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(part) or []):
            here = f"{at}.{part}[{number}]"
            if not container.get("image"):
                problems.append((f"{here}.image", "Required value"))
            if container["name"] in names or not _LABEL.fullmatch(container["name"]):
                problems.append((f"{here}.name", f'Invalid or duplicate value: "{container["name"]}"'))
            names.add(container["name"])
            for mount in container.get("volumeMounts") or []:
                if mount["name"] not in volumes:
                    problems.append((f"{here}.volumeMounts", f'Not found: "{mount["name"]}"'))
            problems += _resources(container.get("resources") or {}, here)
    return problems


def _resources(resources: dict[str, Any], at: str) -> list[tuple[str, str]]:
    return [
        (f"{at}.resources.{side}.{name}", NO_QUANTITY)
        for side in ("requests", "limits")
        for name, value in (resources.get(side) or {}).items()
        if not _QUANTITY.fullmatch(str(value))
    ]


def _deployment(found: dict[str, Any]) -> list[tuple[str, str]]:
    spec = found["spec"]
    wanted = spec["selector"].get("matchLabels") or {}
    labels = spec["template"].get("metadata", {}).get("labels") or {}
    problems = _pod_spec(spec["template"]["spec"], "spec.template.spec")
    if not wanted or any(labels.get(key) != value for key, value in wanted.items()):
        text = "Invalid value: `selector` does not match template `labels`"
        problems.append(("spec.template.metadata.labels", text))
    return problems


def _job(found: dict[str, Any]) -> list[tuple[str, str]]:
    spec = found["spec"]["template"]["spec"]
    problems = _pod_spec(spec, "spec.template.spec")
    if spec.get("restartPolicy") not in ("Never", "OnFailure"):
        problems.append(
            ("spec.template.spec.restartPolicy", 'Required value: valid values: "OnFailure", "Never"')
        )
    if len(found["metadata"]["name"]) > 63:
        problems.append(("metadata.name", "Invalid value: must be no more than 63 characters"))
    return problems


def _service(found: dict[str, Any]) -> list[tuple[str, str]]:
    spec = found["spec"]
    if not spec.get("ports") and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        return [("spec.ports", "Required value")]
    return []


def _http_route(found: dict[str, Any]) -> list[tuple[str, str]]:
    problems = []
    for number, rule in enumerate(found["spec"].get("rules") or []):
        for place, backend in enumerate(rule.get("backendRefs") or []):
            here = f"spec.rules[{number}].backendRefs[{place}]"
            if not 0 <= backend.get("weight", 1) <= 1_000_000:
                problems.append((f"{here}.weight", "Invalid value: should be between 0 and 1000000"))
            if "port" not in backend and backend.get("kind", "Service") == "Service":
                problems.append((here, "Must have port for Service reference"))
    return problems


_RULES = {
    "Pod": lambda found: _pod_spec(found["spec"], "spec"),
    "Deployment": _deployment,
    "Job": _job,
    "Service": _service,
    "HTTPRoute": _http_route,
}
