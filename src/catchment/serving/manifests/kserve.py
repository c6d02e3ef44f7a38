"""A workload as KServe's InferenceService, v1beta1.

In KServe's standard mode each workload is an InferenceService of its own and an HTTPRoute holds the weights,
since there a canary percentage is not supported. In serverless mode one InferenceService is the serving, its
revisions are Knative's, and canaryTrafficPercent says how much the newest one takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from catchment.errors import InvalidField
from catchment.serving.manifests.names import (
    Manifest,
    check_weights,
    cluster_namespace,
    model_annotations,
    serving_labels,
    workload_labels,
)
from catchment.serving.manifests.pods import (
    check_users_words,
    merged_environment,
    resources_of,
    runtime_of,
    user_container,
)
from catchment.serving.manifests.runtimes import Layout, environment
from catchment.serving.manifests.sources import source_uri
from catchment.serving.manifests.user_pod import WHERE
from catchment.serving.workload import Workload
from catchment.settings import Settings

API_VERSION = "serving.kserve.io/v1beta1"
MOUNT = "/mnt/models"
"""Where KServe has models put."""
HTTP_PORT = 80
"""Of the service that KServe makes for a predictor."""
MODES = {"standard": "RawDeployment", "serverless": "Serverless"}
"""As the annotation names them: KServe 0.16 calls them Standard and Knative and knows these, too."""
FORMATS: Mapping[str, tuple[str, str]] = {
    "ONNX": ("onnx", "kserve-tritonserver"),
    "SavedModel": ("tensorflow", "kserve-tritonserver"),
    "GraphDef": ("tensorflow", "kserve-tritonserver"),
    "TorchScript": ("pytorch", "kserve-tritonserver"),
    "TensorRT": ("tensorrt", "kserve-tritonserver"),
    "NetDef": ("triton", "kserve-tritonserver"),
    "SKLearn": ("sklearn", "kserve-mlserver"),
    "XGBoost": ("xgboost", "kserve-mlserver"),
    "MLflow": ("mlflow", "kserve-mlserver"),
}
"""Format -> KServe's name of it, and the serving runtime of KServe's own charts that has it."""


def service_name(key: str) -> str:
    """The service that KServe makes for a workload in standard mode."""
    return f"{key}-predictor"


def key_of(service: str) -> str:
    """The workload's key by the name of its service."""
    return service.removesuffix("-predictor")


def inference_service(workload: Workload, settings: Settings) -> Manifest:
    """The workload as an InferenceService of its own, for KServe's standard mode.

    Raises:
        InvalidField: KServe cannot serve it; the message says what would be right.
    """
    return _service(workload, settings, workload.key, workload_labels(workload), "standard")


def serverless(workloads: Sequence[Workload], weights: Mapping[str, int], settings: Settings) -> Manifest:
    """A serving as one InferenceService for serverless mode: the newest revision, with its share as canary.

    The revision before it must be the one that runs.

    Raises:
        InvalidField: KServe cannot serve it, or the weights name more than two workloads.
    """
    check_weights(weights)
    newest = max(workloads, key=lambda each: each.revision)
    taking = [key for key, weight in weights.items() if weight and key != newest.key]
    if len(taking) > 1:
        raise InvalidField("traffic", "KServe splits traffic between two revisions, not more")
    serving = newest.serving
    made = _service(newest, settings, serving.name, serving_labels(serving), "serverless")
    if taking:
        made["spec"]["predictor"]["canaryTrafficPercent"] = weights.get(newest.key, 0)
    return made


def _service(
    workload: Workload, settings: Settings, name: str, labels: Mapping[str, str], mode: str
) -> Manifest:
    check_users_words(workload)
    kserve_format, runtime = _runtime(workload)
    model: dict[str, Any] = {
        "modelFormat": {"name": kserve_format},
        "runtime": runtime,
        "protocolVersion": "v2",
        "storageUri": _storage(workload, runtime, settings),
        "env": merged_environment(workload, {**environment(workload), "MODEL_STORE": MOUNT}),
        "resources": resources_of(workload),
    }
    theirs = user_container(workload)
    model |= {key: theirs[key] for key in ("args", "imagePullPolicy") if key in theirs}
    pod = {
        key: value
        for key, value in workload.pod.items()
        if key in ("affinity", "nodeSelector", "priorityClassName", "schedulerName", "tolerations")
    }
    predictor: dict[str, Any] = {
        **pod,
        "minReplicas": workload.replicas,
        "maxReplicas": workload.replicas,
        "labels": workload_labels(workload),
        "annotations": model_annotations(workload),
        "model": model,
    }
    if settings.serving_image_pull_secret:
        predictor["imagePullSecrets"] = [{"name": settings.serving_image_pull_secret}]
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": cluster_namespace(workload.serving, settings),
            "labels": dict(labels),
            "annotations": {"serving.kserve.io/deploymentMode": MODES[mode], **model_annotations(workload)},
        },
        "spec": {"predictor": predictor},
    }


def _runtime(workload: Workload) -> tuple[str, str]:
    """KServe's format and serving runtime. A runtime that is none of ours is one that the cluster has.

    Raises:
        InvalidField: KServe has nothing for the format, or the user brings an image.
    """
    if user_container(workload).get("image"):
        raise InvalidField(
            f"{WHERE}.containers[0].image",
            "KServe runs serving runtimes of the cluster: name one in runtime, or use backend kubernetes",
        )
    name = workload.model.format
    found, standard = FORMATS.get(name, ("", ""))
    if workload.runtime in ("", "triton", "mlserver"):
        runtime = runtime_of(workload, "kserve")
        if not found:
            raise InvalidField(
                "format",
                f"KServe has no runtime for {name} that speaks the Open Inference Protocol; "
                f"it has for {', '.join(FORMATS)}; {runtime.name} runs with backend kubernetes",
            )
        return found, standard
    if workload.runtime in ("onnxruntime", "openscoring"):
        raise InvalidField(
            "runtime",
            f"{workload.runtime} is no serving runtime of KServe; use backend kubernetes, or triton",
        )
    return found or name.lower(), workload.runtime


def _storage(workload: Workload, runtime: str, settings: Settings) -> str:
    """What KServe hands to the initializer; a Triton finds its models in folders below where it is put."""
    layouts: dict[str, Layout] = {"kserve-tritonserver": "triton-repository", "kserve-mlserver": "mlserver"}
    return source_uri(workload, layouts.get(runtime, "files"), settings)
