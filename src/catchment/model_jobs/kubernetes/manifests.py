"""The objects of one step in a cluster: a Job with three containers, and the Secret with their token.

```text
model-initializer  knows the token    input/ read-write    fetches task.json and the model's files
executor           knows nothing      input/ read-only     opens the model; writes output/
publisher          knows the token    output/ read-only    brings output/ to the API
```

They run one after the other. The one that opens the foreign files has neither token nor address.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from catchment.settings import Settings

INITIALIZER, EXECUTOR, PUBLISHER = "model-initializer", "executor", "publisher"
CONTAINERS = (INITIALIZER, EXECUTOR, PUBLISHER)
UID_LABEL, STEP_LABEL = "catchment.io/modeljob", "catchment.io/step"
USER = 10001
KEPT_S = 600
"""A Job that has ended is left to look at for so long."""
TOKEN_FOLDER, TOKEN_KEY = "/var/run/catchment", "token"
INPUT, OUTPUT = "/work/input", "/work/output"
ENVIRONMENTS = "/opt/catchment/environments"
"""Where images of conversion have the environments of their backends."""
Manifest = dict[str, Any]


@dataclass(frozen=True)
class StepJob:
    """What is to run.

    Attributes:
        uid: of the ModelJob.
        step: extract, convert or verify.
        title: `namespace/name`, for people.
        backend: of the executor's image.
        light: of the image of the other containers.
    """

    uid: str
    step: str
    title: str
    backend: str
    light: str = "extraction"

    @property
    def name(self) -> str:
        """Of Job and Secret: the same for a run that is resumed, so that it finds them."""
        return f"modeljob-{self.uid}-{self.step}"

    @property
    def labels(self) -> dict[str, str]:
        """Of everything that belongs to it."""
        named = {"app.kubernetes.io/name": "catchment", "app.kubernetes.io/component": "model-job"}
        return {**named, UID_LABEL: self.uid, STEP_LABEL: self.step}


def job(work: StepJob, settings: Settings) -> Manifest:
    """The Job. It never starts a second pod: whether to try again is the flow's to say."""
    longest_s = settings.model_job_time_s + settings.model_job_start_s
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": work.name,
            "labels": work.labels,
            "annotations": {"catchment.io/modeljob-name": work.title},
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": max(1, int(longest_s)),
            "ttlSecondsAfterFinished": KEPT_S,
            "template": {"metadata": {"labels": work.labels}, "spec": _pod(work, settings)},
        },
    }


def secret(work: StepJob, token: str, owner_uid: str) -> Manifest:
    """The Secret with the token; it goes with its Job."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": work.name, "uid": owner_uid}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": work.name, "labels": work.labels, "ownerReferences": [owner]},
        "type": "Opaque",
        "data": {TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }


def _pod(work: StepJob, settings: Settings) -> Manifest:
    disk = settings.model_job_disk
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [
            _container(work, settings, INITIALIZER, ("input", "token")),
            _container(work, settings, EXECUTOR, ("input-read-only", "output")),
        ],
        "containers": [_container(work, settings, PUBLISHER, ("output-read-only", "token"))],
        "volumes": [
            {"name": "input", "emptyDir": {"sizeLimit": disk}},
            {"name": "output", "emptyDir": {"sizeLimit": disk}},
            *({"name": f"tmp-{name}", "emptyDir": {"sizeLimit": disk}} for name in CONTAINERS),
            {"name": "token", "secret": {"secretName": work.name, "defaultMode": 0o440}},
        ],
    }


_MOUNTS = {
    "input": {"name": "input", "mountPath": INPUT},
    "input-read-only": {"name": "input", "mountPath": INPUT, "readOnly": True},
    "output": {"name": "output", "mountPath": OUTPUT},
    "output-read-only": {"name": "output", "mountPath": OUTPUT, "readOnly": True},
    "token": {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
}
_MODES = {INITIALIZER: "fetch", EXECUTOR: "run", PUBLISHER: "deliver"}


def _container(work: StepJob, settings: Settings, name: str, mounts: tuple[str, ...]) -> Manifest:
    executes = name == EXECUTOR
    image = settings.model_job_image.replace("{backend}", work.backend if executes else work.light)
    scratch = {"name": f"tmp-{name}", "mountPath": "/tmp"}  # noqa: S108 - of the container
    return {
        "name": name,
        "image": image,
        "command": ["python", "-m", "catchment.model_jobs.kubernetes.worker", _MODES[name]],
        "env": _own_env() if executes else _env(work, settings),
        "resources": _resources(settings) if executes else _light_resources(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*(_MOUNTS[mount] for mount in mounts), scratch],
    }


def _own_env() -> list[Manifest]:
    values = {"HOME": "/tmp", "CATCHMENT_ENVIRONMENTS": ENVIRONMENTS}  # noqa: S108 - of the container
    return [{"name": name, "value": value} for name, value in values.items()]


def _env(work: StepJob, settings: Settings) -> list[Manifest]:
    values = {
        "HOME": "/tmp",  # noqa: S108 - of the container
        "CATCHMENT_WORK_URL": settings.model_job_api_url,
        "CATCHMENT_WORK": f"{work.uid}/{work.step}",
        "CATCHMENT_WORK_TOKEN_FILE": f"{TOKEN_FOLDER}/{TOKEN_KEY}",
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _resources(settings: Settings) -> Manifest:
    both = {"cpu": settings.model_job_cpu, "memory": settings.model_job_memory}
    return {"requests": both, "limits": both}


def _light_resources() -> Manifest:
    return {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
