"""A serving as SeldonDeployment, machinelearning.seldon.io/v1, composed as the original composes it.

Every predictor is a whole one: no engine before it, its model's container filled in by the format. Where the
original writes the registry's password into the object, this refers to a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from catchment.errors import InvalidField
from catchment.serving.manifests.names import (
    WORKLOAD,
    Manifest,
    check_dns_label,
    check_weights,
    cluster_namespace,
    model_annotations,
    serving_labels,
    shortened,
    workload_labels,
)
from catchment.serving.manifests.pods import pod_spec
from catchment.serving.workload import ServingKey, Workload
from catchment.settings import Settings

API_VERSION = "machinelearning.seldon.io/v1"
NO_ENGINE = "seldon.io/no-engine"
WEIGHTS = "catchment.io/weights"


def seldon_deployment(
    workloads: Sequence[Workload], weights: Mapping[str, int], settings: Settings
) -> Manifest:
    """A serving's workloads as predictors of one SeldonDeployment.

    Args:
        workloads: of one serving, at least one.
        weights: percent by workload key, 100 together; {}: the first one takes all, for Seldon knows no
            deployment without traffic.
        settings: images, registry and its secret.

    Raises:
        InvalidField: a workload cannot run there, or two of them have the same predictor and revision.
    """
    if not workloads:
        raise InvalidField("predictors", "must name one at least")
    made = [predictor(each, settings) for each in workloads]
    return deployment_of(workloads[0].serving, split(made, weights), settings)


def predictor(workload: Workload, settings: Settings) -> dict[str, Any]:
    """A workload as a predictor that takes no traffic.

    Raises:
        InvalidField: it cannot run there.
    """
    pod = pod_spec(workload, "seldon", settings)
    labels = workload_labels(workload)
    ports = {each.get("name"): each["containerPort"] for each in pod["containers"][0].get("ports") or []}
    endpoint = {"type": "REST", **({"httpPort": ports["http"]} if "http" in ports else {})}
    if "grpc" in ports:
        endpoint["grpcPort"] = ports["grpc"]
    return {
        "name": predictor_name(workload),
        "annotations": {NO_ENGINE: "true", **model_annotations(workload)},
        "labels": labels,
        "replicas": workload.replicas,
        "traffic": 0,
        "graph": {
            "name": workload.graph,
            "type": "MODEL",
            "endpoint": endpoint,
            "modelUri": workload.model.reference,
            "parameters": [{"name": "format", "type": "STRING", "value": workload.model.format}],
            "children": [],
        },
        "componentSpecs": [{"metadata": {"name": workload.graph, "labels": labels}, "spec": pod}],
    }


def predictor_name(workload: Workload) -> str:
    """The predictor's name: of its revision, since two revisions stand side by side while traffic shifts."""
    name = f"{workload.predictor}-r{workload.revision}".lower().replace(".", "-")
    return check_dns_label(shortened(name, 40), "predictors.name")


def service_name(workload: Workload) -> str:
    """The service that Seldon makes for a predictor, named <deployment>-<predictor>."""
    return f"{workload.serving.name}-{predictor_name(workload)}"


def split(predictors: Sequence[Mapping[str, Any]], weights: Mapping[str, int]) -> list[dict[str, Any]]:
    """The predictors with these weights, by the label of their workload.

    Raises:
        InvalidField: the weights are no percentages of 100, a workload is not there, or a name is twice.
    """
    check_weights(weights)
    keys = [workload_of(each) for each in predictors]
    names = [each["name"] for each in predictors]
    if len(set(names)) < len(names):
        raise InvalidField("predictors.name", "two predictors of one revision have the same name")
    if missing := sorted(set(weights) - set(keys)):
        raise InvalidField("traffic", f"{missing[0]} is not applied; there are {', '.join(keys)}")
    shares = dict(weights) or {keys[0]: 100}
    return [{**each, "traffic": shares.get(key, 0)} for key, each in zip(keys, predictors, strict=True)]


def workload_of(predictor: Mapping[str, Any]) -> str:
    """The key of a predictor's workload."""
    return str((predictor.get("labels") or {}).get(WORKLOAD, ""))


def deployment_of(
    serving: ServingKey, predictors: Sequence[Mapping[str, Any]], settings: Settings
) -> Manifest:
    """The object around a serving's predictors."""
    return {
        "apiVersion": API_VERSION,
        "kind": "SeldonDeployment",
        "metadata": {
            "name": serving.name,
            "namespace": cluster_namespace(serving, settings),
            "labels": serving_labels(serving),
        },
        "spec": {
            "name": serving.name,
            "protocol": "v2",
            "annotations": {NO_ENGINE: "true"},
            "predictors": list(map(dict, predictors)),
        },
    }
