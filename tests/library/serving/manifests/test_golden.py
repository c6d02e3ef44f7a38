"""What is rendered is what the golden files say, and what the schemas of Kubernetes and its extensions allow.

`CATCHMENT_UPDATE_GOLDEN=1 pytest tests/library/serving/manifests/test_golden.py` writes the files anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from catchment.serving.manifests.names import Manifest
from tests.library.serving.manifests.cases import cases

FOLDER = Path(__file__).parent
GOLDEN, SCHEMAS = FOLDER / "golden", FOLDER / "schemas"
CASES = cases()
KUBERNETES = "1.32"
"""`sleep` in preStop is in the schemas from 1.29 on, and switched on from 1.30 on."""


class _Plain(yaml.SafeDumper):
    """Writes equal parts out, each time."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize("name", CASES)
def test_manifests_are_as_their_golden_file(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.dump_all(CASES[name], Dumper=_Plain, sort_keys=False, width=110)
    if os.environ.get("CATCHMENT_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert list(yaml.safe_load_all(path.read_text())) == CASES[name]


def test_there_is_no_golden_file_without_a_case() -> None:
    assert {each.stem for each in GOLDEN.glob("*.yaml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_manifests_fit_their_schemas(name: str) -> None:
    for made in CASES[name]:
        validate(made)


def validate(made: Manifest) -> None:
    """Kubernetes' own kinds by its schemas, strictly; others by ours, and the pods in them by Kubernetes'."""
    schema = SCHEMAS / f"{made['kind']}.json"
    if not schema.is_file():
        kubernetes_validate.validate(made, KUBERNETES, strict=True)
        return
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(made)
    for pod in pods_in(made):
        wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
        kubernetes_validate.validate(wrapped, KUBERNETES, strict=True)


def pods_in(made: Manifest) -> list[dict[str, Any]]:
    if made["kind"] == "SeldonDeployment":
        return [each["componentSpecs"][0]["spec"] for each in made["spec"]["predictors"]]
    if made["kind"] == "InferenceService":
        predictor = made["spec"]["predictor"]
        container = {key: value for key, value in predictor["model"].items() if key in ("env", "resources")}
        return [{"containers": [{"name": "kserve-container", **container}]}]
    return []


@pytest.mark.parametrize("name", CASES)
def test_no_pod_may_more_than_restricted(name: str) -> None:
    specs = [
        each["spec"]["template"]["spec"] if each["kind"] == "Deployment" else pod
        for each in CASES[name]
        for pod in (pods_in(each) or [{}])
        if each["kind"] in ("Deployment", "SeldonDeployment")
    ]
    for pod in specs:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["initContainers"] + pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", CASES)
def test_no_secret_is_written_out(name: str) -> None:
    def variables(value: Any) -> list[dict[str, Any]]:
        if isinstance(value, dict):
            own = [value] if "name" in value and ("value" in value or "valueFrom" in value) else []
            return own + [found for each in value.values() for found in variables(each)]
        return [found for each in value for found in variables(each)] if isinstance(value, list) else []

    secret = [each for each in variables(CASES[name]) if "PASSWORD" in each["name"] or "KEY" in each["name"]]
    assert all("value" not in each and "secretKeyRef" in each["valueFrom"] for each in secret)


def test_the_schemas_refuse_what_they_should() -> None:
    route = CASES["kubernetes-onnx-canary"][-1]
    assert route["kind"] == "HTTPRoute"
    broken = json.loads(json.dumps(route))
    broken["spec"]["rules"][0]["backendRefs"][0]["wieght"] = 5
    with pytest.raises(jsonschema.ValidationError, match="wieght"):
        validate(broken)
    service = json.loads(json.dumps(CASES["kserve-standard"][0]))
    service["spec"]["predictor"]["canaryTrafficPercent"] = 150
    with pytest.raises(jsonschema.ValidationError, match="150"):
        validate(service)
    deployment = json.loads(json.dumps(CASES["seldon-canary"][0]))
    deployment["spec"]["predictors"][0]["traffic"] = "5"
    with pytest.raises(jsonschema.ValidationError):
        validate(deployment)
