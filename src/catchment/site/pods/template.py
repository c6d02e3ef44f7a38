"""The pod that a site's people describe, and the Job that the agent makes of it for one script.

The template says image, volumes, nodes and tolerations. The agent adds what is to be run, its limits, and
which parts of the volumes it sees: of `home` the work's own folders, of `datasets` the job's data sets,
read-only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from catchment.errors import SetupError, SiteError
from catchment.site.launch_file import Launch

HOME, DATASETS = "home", "datasets"
"""Names of the volumes that the agent knows."""
_OWN_MEMORY_MB = 300
"""Of what watches over the script."""
_HOST = ("hostNetwork", "hostPID", "hostIPC", "hostUsers")
_GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Seen:
    """What the script's pod sees of the agent's home, by absolute paths.

    Attributes:
        written: folders that it may write.
        read: files and folders that it only reads, which may lie within the former.
        datasets: data sets that it reads.
    """

    written: tuple[Path, ...]
    read: tuple[Path, ...]
    datasets: tuple[Path, ...]


@dataclass(frozen=True)
class PodTemplate:
    """A pod template that was read and checked.

    Attributes:
        labels, annotations: of the pods.
        spec: a pod's spec with one container.
        home: where the volume `home` is mounted, in the agent's pod as well.
        datasets: where the volume `datasets` is, if there is one.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    home: Path
    datasets: Path | None

    @classmethod
    def read(cls, path: Path, home: Path) -> PodTemplate:
        """The template in a YAML file.

        Args:
            path: the file.
            home: the agent's home folder, which must be on the volume `home`.

        Raises:
            SetupError: it cannot be used; names the field.
        """
        try:
            content = yaml.safe_load(path.read_bytes())
            spec = dict(content["spec"])
            (container,) = spec["containers"]
            mounts = {str(mount["name"]): Path(mount["mountPath"]) for mount in container["volumeMounts"]}
            container["image"]
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise SetupError(
                f"--pod-template {path} must be a pod template in YAML: spec with one container that has an "
                f"image and volumeMounts ({type(error).__name__}: {error})"
            ) from error
        if HOME not in mounts or not home.is_relative_to(mounts[HOME]):
            raise SetupError(
                f"--pod-template {path}: its volumeMounts must mount a volume {HOME!r} where the agent has "
                f"it; --home {home} must lie in there"
            )
        if shared := [name for name in _HOST if spec.get(name)]:
            raise SetupError(f"--pod-template {path}: spec.{shared[0]} would undo the isolation of scripts")
        meta = content.get("metadata") or {}
        labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
        return cls(labels, notes, spec, mounts[HOME], mounts.get(DATASETS))

    def job(
        self, name: str, labels: Mapping[str, str], launch: Launch, seen: Seen, command: Iterable[str]
    ) -> dict[str, Any]:
        """The Job that runs a command once, with the limits of a launch.

        Raises:
            SiteError: a data set is on no volume of the template.
        """
        spec = copy.deepcopy(dict(self.spec))
        (container,) = spec["containers"]
        container |= {
            "name": "script",
            "command": [*command],
            "args": [],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": _resources(container.get("resources") or {}, launch),
            "volumeMounts": [*self._narrowed(container["volumeMounts"]), *self._mounts(seen)],
        }
        spec |= {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": int(launch.grace_s) + 6,
            "securityContext": {
                "seccompProfile": {"type": "RuntimeDefault"},
                **(spec.get("securityContext") or {}),
                "runAsNonRoot": True,
            },
        }
        all_labels = {**self.labels, **labels}
        template = {"metadata": {"labels": all_labels, "annotations": dict(self.annotations)}, "spec": spec}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 600, "template": template},
        }

    def _narrowed(self, mounts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [dict(mount) for mount in mounts if mount["name"] not in (HOME, DATASETS)]

    def _mounts(self, seen: Seen) -> list[dict[str, Any]]:
        mounts = [_mount(HOME, path, self.home) for path in seen.written]
        mounts += [{**_mount(HOME, path, self.home), "readOnly": True} for path in seen.read]
        for path in seen.datasets:
            if self.datasets is None or not path.is_relative_to(self.datasets):
                raise SiteError(f"the data set {path} is on no volume {DATASETS!r} of the pod template")
            mounts.append({**_mount(DATASETS, path, self.datasets), "readOnly": True})
        return mounts


def _mount(volume: str, path: Path, root: Path) -> dict[str, Any]:
    inside = str(path.relative_to(root))
    part = {} if inside == "." else {"subPath": inside}
    return {"name": volume, "mountPath": str(path), **part}


def gpus(launch: Launch) -> int:
    """How many GPUs a launch was given."""
    return len([name for name in launch.env.get("CUDA_VISIBLE_DEVICES", "").split(",") if name])


def _resources(given: Mapping[str, Any], launch: Launch) -> dict[str, Any]:
    """What the script may use, in Kubernetes' words; the template's own words for anything else."""
    workers = len(launch.rank_env)
    own = {
        "cpu": str(launch.limits.threads * workers),
        "memory": f"{launch.limits.memory_mb * workers + _OWN_MEMORY_MB}M",
    }
    if wanted := gpus(launch):
        own[_GPU] = str(wanted)
    return {part: {**(given.get(part) or {}), **own} for part in ("requests", "limits")}
