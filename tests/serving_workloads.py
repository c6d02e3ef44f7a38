"""Workloads for tests of what runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catchment.serving.workload import ServedModel, ServingKey, Workload
from catchment.settings import Settings

X = {"name": "x", "dType": "float32", "size": [-1, 64]}
Y = {"name": "y", "dType": "float32", "size": [-1, 10]}
DIGEST = "sha256:" + "ab" * 32
SERVING = ServingKey("default", "digits", "0123456789abcdef0123456789abcdef")


def model(
    format_name: str = "ONNX",
    *,
    inputs: tuple[Mapping[str, Any], ...] = (X,),
    outputs: tuple[Mapping[str, Any], ...] = (Y,),
    digest: str = DIGEST,
    reference: str = "default/digits:v3",
) -> ServedModel:
    """A version that is served; a classifier of images unless said otherwise."""
    return ServedModel("m1", reference, digest, format_name, inputs, outputs, 10_000)


def workload(revision: int = 1, *, serving: ServingKey = SERVING, **fields: Any) -> Workload:
    """A workload of predictor `main` and graph `classifier`."""
    given: dict[str, Any] = {"predictor": "main", "graph": "classifier", "model": model(), **fields}
    return Workload(serving=serving, revision=revision, **given)


def settings(**fields: Any) -> Settings:
    """Settings of a cluster that has all that servings need."""
    given: dict[str, Any] = {
        "serving_image": "registry.example.org/catchment:0.1.0",
        "serving_registry": "http://catchment-api.catchment:8080",
        "serving_registry_secret": "catchment-registry",
        "serving_gateways": "gateways/public/https",
        "serving_host": "models.example.org",
        **fields,
    }
    return Settings(**given)
