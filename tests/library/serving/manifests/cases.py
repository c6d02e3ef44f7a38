"""The manifests that have golden files: name -> what is rendered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from catchment.serving.manifests.names import Manifest
from catchment.serving.manifests.render import render
from tests.serving_workloads import model, settings, workload

GPU = {"limits": {"nvidia.com/gpu": "1", "memory": "8Gi"}, "requests": {"cpu": "2", "memory": "8Gi"}}
STABLE, CANARY = workload(1, replicas=2), workload(2, replicas=1, server={"queue": 16, "drain_s": 20})
SPLIT = {STABLE.key: 95, CANARY.key: 5}
USERS_POD: dict[str, Any] = {
    "containers": [
        {
            "name": "classifier",
            "env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "api"}}}],
            "volumeMounts": [{"name": "shared", "mountPath": "/mnt/digits"}],
        }
    ],
    "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "models"}}],
    "nodeSelector": {"pool": "models"},
    "tolerations": [{"key": "models", "operator": "Exists"}],
    "schedulerName": "volcano",
}
CUSTOM_POD = {
    "containers": [{"name": "own", "image": "example.org/own:1", "ports": [{"containerPort": 9000}]}]
}


def in_format(name: str, **fields: Any) -> Any:
    """A workload of another format."""
    return workload(model=model(name), **fields)


def cases() -> dict[str, list[Manifest]]:
    """All of them, rendered."""
    full = settings(
        serving_registry="https://harbor.example.org",
        serving_registry_ca="registry-ca",
        serving_image_pull_secret="pull",
        serving_readiness_gate=True,
    )
    pmml = settings(serving_openscoring_image="example.org/openscoring:2.1")
    alone = {STABLE.key: 100}
    saved = in_format("SavedModel")
    joblib = in_format("SKLearn", env={"OMP_NUM_THREADS": "2"})
    return {
        "kubernetes-onnx-canary": render([STABLE, CANARY], SPLIT, "kubernetes", settings()),
        "kubernetes-no-traffic": render([CANARY], {}, "kubernetes", settings(serving_gateways="")),
        "kubernetes-triton-gpu": render(
            [replace(STABLE, runtime="triton", resources=GPU)], alone, "kubernetes", full
        ),
        "kubernetes-mlserver": render([joblib], {joblib.key: 100}, "kubernetes", settings()),
        "kubernetes-pmml": render([in_format("PMML")], {}, "kubernetes", pmml),
        "kubernetes-users-pod": render([replace(CANARY, pod=USERS_POD)], {}, "kubernetes", settings()),
        "kubernetes-own-image": render(
            [workload(graph="own", pod=CUSTOM_POD)], {}, "kubernetes", settings(serving_registry_secret="")
        ),
        "kserve-standard": render([STABLE, CANARY], SPLIT, "kserve", settings()),
        "kserve-serverless": render([STABLE, CANARY], SPLIT, "kserve", settings(kserve_mode="serverless")),
        "kserve-mlserver": render([joblib], {}, "kserve", full),
        "seldon-canary": render([STABLE, CANARY], SPLIT, "seldon", settings()),
        "seldon-savedmodel": render([saved], {}, "seldon", full),
        "seldon-users-pod": render([replace(joblib, pod=USERS_POD)], {}, "seldon", settings()),
    }
