"""The pod of a workload: the model fetched by digest, the runtime beside it, and what the user adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from catchment.errors import InvalidField
from catchment.serving.manifests import probes
from catchment.serving.manifests.names import check_dns_label, shortened
from catchment.serving.manifests.runtimes import (
    CUSTOM,
    Form,
    Runtime,
    arguments,
    check_signature,
    choose,
    drain_s,
    environment,
    image_of,
    model_folder,
)
from catchment.serving.manifests.sources import registry_environment, source_uri
from catchment.serving.manifests.user_pod import check_pod
from catchment.serving.workload import Workload
from catchment.settings import Settings

VOLUME, TMP, CA = "models-mnt", "tmp", "registry-ca"
PRE_STOP_S = 5
"""A pod that ends is asked for so long still, until every proxy has heard of it."""
USER = 1000
"""Whom containers run as, unless the user names another; not root."""
_SECURITY: Mapping[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def user_container(workload: Workload) -> Mapping[str, Any]:
    """The user's own words on the model's container; {} for none."""
    containers = workload.pod.get("containers") or [{}]
    found: Mapping[str, Any] = containers[0]
    return found


def runtime_of(workload: Workload, form: Form) -> Runtime:
    """The workload's runtime, all that can be wrong with it checked.

    Raises:
        InvalidField: the format, runtime, signature, names or the user's pod spec.
    """
    check_users_words(workload)
    if user_container(workload).get("image"):
        return CUSTOM
    runtime = choose(workload, form)
    check_signature(workload, runtime)
    return runtime


def check_users_words(workload: Workload) -> None:
    """Whether names, pod spec and resources can be applied. Raises InvalidField."""
    check_dns_label(workload.graph, "graph.name")
    check_dns_label(workload.predictor.lower().replace(".", "-"), "predictors.name")
    check_pod(workload.pod)
    _check_resources(workload)


def pod_spec(workload: Workload, form: Form, settings: Settings) -> dict[str, Any]:
    """The pod's spec.

    Raises:
        InvalidField: it cannot run there; the message says what would be right.
        SetupError: the settings name no registry.
    """
    runtime = runtime_of(workload, form)
    mount = _mount(workload)
    own = _initializer(workload, runtime, mount, settings)
    theirs = list(map(dict, workload.pod.get("initContainers") or []))
    fetched = any(str(each.get("name", "")).endswith("-model-initializer") for each in theirs)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_S + drain_s(workload) + 10,
        **{
            key: value
            for key, value in workload.pod.items()
            if key not in ("containers", "initContainers", "volumes")
        },
        "securityContext": _pod_security(workload.pod.get("securityContext") or {}),
        "initContainers": [_secured(each) for each in ([*theirs] if fetched else [own, *theirs])],
        "containers": [_secured(_container(workload, runtime, mount, settings))],
        "volumes": _volumes(workload, mount, settings),
    }
    if settings.serving_image_pull_secret:
        spec["imagePullSecrets"] = [
            *spec.get("imagePullSecrets", []),
            {"name": settings.serving_image_pull_secret},
        ]
    return spec


def resources_of(workload: Workload) -> dict[str, Any]:
    """Requests and limits of the model's container."""
    told = workload.resources or user_container(workload).get("resources") or {}
    return {kind: dict(each) for kind, each in told.items()}


def merged_environment(workload: Workload, own: Mapping[str, str]) -> list[dict[str, Any]]:
    """Our variables, then those of the user's container, then the workload's; the later wins by name."""
    named = {name: {"name": name, "value": value} for name, value in own.items()}
    if not asks_for_gpu(resources_of(workload)):
        # Without it NVIDIA's images see every GPU of the node.
        named["NVIDIA_VISIBLE_DEVICES"] = {"name": "NVIDIA_VISIBLE_DEVICES", "value": ""}
    named |= {each["name"]: dict(each) for each in user_container(workload).get("env") or []}
    named |= {name: {"name": name, "value": value} for name, value in workload.env.items()}
    return list(named.values())


def asks_for_gpu(resources: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a limit asks for a GPU, of whatever vendor."""
    limits = resources.get("limits") or {}
    return any("gpu" in key.lower() and str(value).strip("0 ") for key, value in limits.items())


def _container(
    workload: Workload, runtime: Runtime, mount: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    theirs = dict(user_container(workload))
    folder = str(mount["mountPath"])
    own: dict[str, Any] = {"name": workload.graph}
    if runtime is CUSTOM:
        own |= {**probes.of_custom(), "ports": _ports(runtime)}
        variables = {**environment(workload), "MODEL_STORE": folder.rpartition("/")[0] or "/"}
    else:
        own |= {"image": image_of(runtime, settings), **arguments(workload, runtime, folder)}
        own |= probes.of_runtime(runtime, workload.serving.name, settings.serving_start_timeout_s)
        own["ports"] = _ports(runtime)
        variables = environment(workload)
        if runtime.name != "onnxruntime":
            variables["HOME"] = "/tmp"  # noqa: S108 - a volume of the pod
    own["lifecycle"] = {"preStop": {"sleep": {"seconds": PRE_STOP_S}}}
    made = {**own, **theirs, "name": workload.graph}
    made["env"] = merged_environment(workload, variables)
    made["resources"] = resources_of(workload)
    own_layout = runtime.layout != "files" or runtime.name == "onnxruntime"
    given = {**mount, "readOnly": True} if own_layout else dict(mount)
    made["volumeMounts"] = [given, {"name": TMP, "mountPath": "/tmp"}]  # noqa: S108
    security = {"readOnlyRootFilesystem": runtime.name == "onnxruntime"}
    made["securityContext"] = {**security, **(theirs.get("securityContext") or {})}
    return made


def _ports(runtime: Runtime) -> list[dict[str, Any]]:
    told = (("http", runtime.http), ("grpc", runtime.grpc))
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in told if port]


def _mount(workload: Workload) -> dict[str, Any]:
    """Where the model is put: the user's volume in a folder of this revision, or one of the pod's own."""
    theirs: Sequence[Mapping[str, Any]] = user_container(workload).get("volumeMounts") or []
    if not theirs:
        return {"name": VOLUME, "mountPath": model_folder(workload)}
    serving, revision = workload.serving.name, f"r{workload.revision}"
    return {
        "name": theirs[0]["name"],
        "mountPath": theirs[0].get("mountPath") or model_folder(workload),
        "subPath": f"serving/{serving}/{workload.graph}/{revision}/modeldir",
    }


def _volumes(workload: Workload, mount: Mapping[str, Any], settings: Settings) -> list[dict[str, Any]]:
    volumes = list(map(dict, workload.pod.get("volumes") or []))
    names = {each.get("name") for each in volumes}
    if mount["name"] not in names:
        volumes.append({"name": mount["name"], "emptyDir": {}})
    if TMP not in names:
        volumes.append({"name": TMP, "emptyDir": {}})
    if settings.serving_registry_ca:
        volumes.append({"name": CA, "configMap": {"name": settings.serving_registry_ca}})
    return volumes


def _initializer(
    workload: Workload, runtime: Runtime, mount: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    named = [{"name": name, "value": value} for name, value in environment(workload).items()]
    resources = resources_of(workload)
    mounts: list[dict[str, Any]] = [dict(mount), {"name": TMP, "mountPath": "/tmp"}]  # noqa: S108
    if settings.serving_registry_ca:
        mounts.append({"name": CA, "mountPath": "/etc/catchment/registry-ca", "readOnly": True})
    return {
        "name": shortened(f"{workload.graph}-model-initializer"),
        "image": settings.serving_image,
        "command": ["python", "-m", "catchment.serving.initializer"],
        "args": [source_uri(workload, runtime.layout, settings), mount["mountPath"]],
        "env": [*named, *registry_environment(settings)],
        # It runs before the others, so that what it may use costs nothing; a GPU is not its business.
        "resources": {
            kind: {key: value for key, value in each.items() if key in ("cpu", "memory", "ephemeral-storage")}
            for kind, each in resources.items()
        },
        "volumeMounts": mounts,
        "securityContext": {"readOnlyRootFilesystem": True},
    }


def _secured(container: dict[str, Any]) -> dict[str, Any]:
    """The container with the restrictions that nobody lifts."""
    context = {**(container.get("securityContext") or {}), **_SECURITY}
    # What a container said last is what Kubernetes then tells of its end.
    return {"terminationMessagePolicy": "FallbackToLogsOnError", **container, "securityContext": context}


def _pod_security(theirs: Mapping[str, Any]) -> dict[str, Any]:
    own = {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    return {**own, **theirs, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def _check_resources(workload: Workload) -> None:
    told = workload.resources or user_container(workload).get("resources") or {}
    for kind, each in told.items():
        if kind not in ("requests", "limits") or not isinstance(each, Mapping):
            raise InvalidField(f"resources.{kind}", "must be requests or limits, each with amounts by name")
