"""A workload on plain Kubernetes: Deployment, Service and, for several replicas, PodDisruptionBudget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from catchment.serving.manifests.names import (
    WORKLOAD,
    Manifest,
    cluster_namespace,
    model_annotations,
    workload_labels,
)
from catchment.serving.manifests.pods import pod_spec
from catchment.serving.workload import Workload
from catchment.settings import Settings

HTTP_PORT, GRPC_PORT = 8000, 8001
"""Ports of the Service, whatever the container's are."""
VERIFIED = "catchment.io/verified"
"""The pod condition of the readiness gate."""


def objects(workload: Workload, settings: Settings) -> list[Manifest]:
    """What makes the workload run; it takes no traffic by that.

    Raises:
        InvalidField: it cannot run on Kubernetes; the message says what would be right.
    """
    pod = pod_spec(workload, "kubernetes", settings)
    about, ports = _metadata(workload, settings), pod["containers"][0].get("ports") or []
    made = [_deployment(workload, settings, pod), _service(workload, about, ports)]
    return [*made, _budget(workload, about)] if workload.replicas > 1 else made


def _metadata(workload: Workload, settings: Settings) -> dict[str, Any]:
    return {
        "name": workload.key,
        "namespace": cluster_namespace(workload.serving, settings),
        "labels": workload_labels(workload),
        "annotations": model_annotations(workload),
    }


def _selector(workload: Workload) -> dict[str, str]:
    """It cannot be changed, so it holds what never does."""
    return {WORKLOAD: workload.key}


def _deployment(workload: Workload, settings: Settings, pod: dict[str, Any]) -> Manifest:
    gates = [{"conditionType": VERIFIED}] if settings.serving_readiness_gate else []
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(workload, settings),
        "spec": {
            "replicas": workload.replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": settings.serving_start_timeout_s,
            "selector": {"matchLabels": _selector(workload)},
            # Never fewer than asked for: a new pod is ready before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {
                    "labels": workload_labels(workload),
                    "annotations": {
                        **model_annotations(workload),
                        "kubectl.kubernetes.io/default-container": workload.graph,
                    },
                },
                "spec": {**pod, "readinessGates": gates} if gates else pod,
            },
        },
    }


def _service(
    workload: Workload, about: Mapping[str, Any], container_ports: Sequence[Mapping[str, Any]]
) -> Manifest:
    named = {each.get("name"): each["containerPort"] for each in container_ports}
    # A container of the user's own may have one port, without a name.
    first = container_ports[0]["containerPort"] if container_ports else HTTP_PORT
    ports = [_port("http", HTTP_PORT, "http" if "http" in named else first)]
    if "grpc" in named:
        ports.append({**_port("grpc", GRPC_PORT, "grpc"), "appProtocol": "kubernetes.io/h2c"})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": dict(about),
        "spec": {"type": "ClusterIP", "selector": _selector(workload), "ports": ports},
    }


def _port(name: str, port: int, target: str | int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


def _budget(workload: Workload, about: Mapping[str, Any]) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(about),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(workload)}},
    }
