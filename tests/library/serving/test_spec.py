"""What users send as a serving: the original's SeldonDeployment, and the short form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catchment.errors import InvalidField
from catchment.serving.spec import ServingSpec, parse


def seldon(**predictor: Any) -> dict[str, Any]:
    """A body as the original's UI sends it."""
    container = {"name": "digits", "image": "", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    first = {
        "name": "digits",
        "replicas": 2,
        "graph": {
            "name": "digits",
            "type": "MODEL",
            "modelUri": "harbor.example.com/vision/digits:v3",
            "implementation": None,
            "parameters": [{"name": "format", "value": "ONNX"}],
        },
        "componentSpecs": [{"metadata": {"name": "digits"}, "spec": {"containers": [container]}}],
        **predictor,
    }
    return {
        "apiVersion": "machinelearning.seldon.io/v1alpha2",
        "kind": "SeldonDeployment",
        "metadata": {"name": "digits", "namespace": "default"},
        "spec": {"name": "digits", "predictors": [first]},
    }


def short(**fields: Any) -> dict[str, Any]:
    return {"name": "digits", "model": "vision/digits:v3", **fields}


def test_a_seldon_deployment_is_understood() -> None:
    new = parse(seldon(), "default", "local")
    (predictor,) = new.spec.predictors
    assert (new.name, new.backend) == ("digits", "local")
    assert (predictor.model, predictor.format, predictor.replicas) == (
        "harbor.example.com/vision/digits:v3",
        "ONNX",
        2,
    )
    assert predictor.traffic == 100
    assert predictor.resources.limits == {"cpu": "1", "memory": "1Gi"}
    assert new.body["spec"]["predictors"][0]["graph"]["modelUri"] == predictor.model


def test_a_component_s_replicas_go_before_its_predictor_s() -> None:
    component = {**seldon()["spec"]["predictors"][0]["componentSpecs"][0], "replicas": 3}
    (predictor,) = parse(seldon(componentSpecs=[component]), "default", "local").spec.predictors
    assert predictor.replicas == 3


def test_a_pod_that_says_more_than_its_predictor_is_kept() -> None:
    (plain,) = parse(seldon(), "default", "local").spec.predictors
    assert plain.pod == {}
    container = {"name": "digits", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}
    component = {"metadata": {"name": "digits"}, "spec": {"containers": [container]}}
    (own,) = parse(seldon(componentSpecs=[component]), "default", "local").spec.predictors
    assert own.pod == {"containers": [container]}


def test_several_predictors_share_the_traffic() -> None:
    body = seldon(traffic=80)
    body["spec"]["predictors"].append({**body["spec"]["predictors"][0], "name": "other", "traffic": 20})
    new = parse(body, "default", "local")
    assert [(each.name, each.traffic) for each in new.spec.predictors] == [("digits", 80), ("other", 20)]


def test_the_short_form_says_the_same_as_the_long_one() -> None:
    new = parse(
        short(replicas=2, format="ONNX", resources={"limits": {"cpu": "1"}}, canary={"steps": [10]})
        | {"env": {"TZ": "UTC"}},
        "default",
        "local",
    )
    assert new.spec.canary.steps == (10, 100)
    again = parse(
        {
            **new.body,
            "metadata": {"name": new.name, "annotations": new.annotations},
            "status": {"state": "Available"},
        },
        "default",
        "local",
    )
    assert again.spec == new.spec, "what GET answers can be sent again, and changes nothing"


def test_a_short_spec_may_stand_in_an_object_too() -> None:
    body = {"metadata": {"name": "digits"}, "spec": {"model": "vision/digits:v3", "backend": "kserve"}}
    assert parse(body, "default", "local").backend == "kserve"


def test_what_is_catchments_own_stands_in_annotations_of_a_seldon_deployment() -> None:
    body = seldon()
    body["metadata"]["annotations"] = {
        "catchment.io/canary": json.dumps({"steps": [50], "approval": True}),
        "catchment.io/backend": "kubernetes",
    }
    new = parse(body, "default", "local")
    assert (new.spec.canary.steps, new.spec.canary.approval, new.backend) == ((50, 100), True, "kubernetes")


def test_a_stored_spec_is_read_as_it_was() -> None:
    spec = parse(short(canary={"steps": [1, 99], "metric": {"name": "accuracy"}}), "default", "local").spec
    assert ServingSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


def test_parts_of_seldons_own_data_plane_are_named_as_not_used() -> None:
    new = parse(seldon(svcOrchSpec={"env": []}, engineResources={}), "default", "local")
    assert set(new.ignored) == {"spec.predictors.0.svcOrchSpec", "spec.predictors.0.engineResources"}


WRONG: list[tuple[str, Any]] = [
    ("body", []),
    ("metadata.name", {"model": "vision/digits:v3"}),
    ("name", short(name="Digits")),
    ("metadata.name", short(name="d" * 41)),
    ("metadata.namespace", {**seldon(), "metadata": {"name": "digits", "namespace": "other"}}),
    ("model", {"name": "digits"}),
    ("kind", seldon() | {"kind": "Pod"}),
    ("apiVersion", seldon() | {"apiVersion": "serving.kserve.io/v1beta1"}),
    ("canary", seldon() | {"canary": {"steps": [50]}}),
    ("labels", {"metadata": {"name": "digits"}, "model": "vision/digits:v3", "labels": {}}),
    ("spec.predictors.0.replicas", seldon(replicas=0)),
    ("spec.predictors.0.graph.name", seldon(graph={"name": "a_b", "modelUri": "p/a:1"}, componentSpecs=[])),
    ("spec.predictors.0.graph.modelUri", seldon(graph={"name": "digits", "modelUri": "vision/digits"})),
    (
        "metadata.annotations.catchment.io/canary.step_s",
        seldon() | {"metadata": {"name": "digits", "annotations": {"catchment.io/canary": '{"step_s": -1}'}}},
    ),
    ("metadata.annotations.catchment.io/canary", short(annotations={"catchment.io/canary": "{}"})),
    ("model", short(model="vision/digits")),
    ("format", short(format="Onyx")),
    ("replicas", short(replicas=0)),
    ("replica", short(replica=2)),
    ("canary", short(canary={"steps": [50, 25]})),
    ("canary.steps.0", short(canary={"steps": [0, 25]})),
    ("backend", short(backend="mesos")),
    ("spec.predictors", {**seldon(), "spec": {"predictors": []}}),
    ("spec.predictors.0.shadow", seldon(shadow=True)),
    ("spec.predictors.0.graph.children", seldon(graph={"name": "a", "modelUri": "p/a:1", "children": [{}]})),
    ("spec.predictors.0.componentSpecs.0.metadata.name", seldon(graph={"name": "a", "modelUri": "p/a:1"})),
    ("spec.predictors.traffic", {**seldon(traffic=80)}),
]


@pytest.mark.parametrize(("field", "body"), WRONG)
def test_a_wrong_field_is_named(field: str, body: Any) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(body, "default", "local")
    assert refused.value.field == field


def test_another_name_than_the_paths_is_refused() -> None:
    with pytest.raises(InvalidField, match="the path names 'other'"):
        parse(seldon(), "default", "local", "other")
    assert parse({"model": "vision/digits:v3"}, "default", "local", "other").name == "other"
