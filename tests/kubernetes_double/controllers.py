"""The fake controllers: Jobs and Deployments make pods, hooks fill the status of custom resources."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes_double import deleting
from tests.kubernetes_double.objects import Object, Objects, now
from tests.kubernetes_double.problems import Problem, gone_is_fine
from tests.kubernetes_double.resources import Resource

Hook = Callable[[Object], dict[str, Any] | None]
"""Called once for each generation of an object; its new status, or None to leave it."""


@dataclass
class Controllers:
    """Called again and again by one thread."""

    objects: Objects
    delete: Callable[[Objects, Resource, str, str, dict[str, Any]], Object] = deleting.delete
    collect: Callable[[Objects], None] = deleting.collect
    """The garbage collector."""
    hooks: dict[str, Hook] = field(default_factory=dict)
    _hooked: set[tuple[str, int]] = field(default_factory=set)
    _since: dict[str, float] = field(default_factory=dict)
    _progress: dict[str, tuple[Any, float]] = field(default_factory=dict)
    _job_pods: dict[str, set[str]] = field(default_factory=dict)

    def sync(self) -> None:
        """One pass over everything."""
        self.collect(self.objects)
        for job in self.objects.list(self.objects.resource("jobs")):
            self._job(job)
        for deployment in self.objects.list(self.objects.resource("deployments")):
            self._deployment(deployment)
        for plural, hook in list(self.hooks.items()):
            resource = self.objects.resource(plural)
            for found in self.objects.list(resource):
                self._hook(resource, found, hook)

    def _hook(self, resource: Resource, found: Object, hook: Hook) -> None:
        key = (found["metadata"]["uid"], found["metadata"].get("generation", 0))
        if key not in self._hooked and "deletionTimestamp" not in found["metadata"]:
            self._hooked.add(key)
            status = hook(found)
            if status is not None:
                self.set_status(resource, found, status)

    def set_status(self, resource: Resource, found: Object, status: dict[str, Any]) -> None:
        """Write a status, unless the object is gone."""

        def edit(live: Object) -> Object:
            if live["metadata"]["uid"] != found["metadata"]["uid"]:
                raise Problem(404, "it is another object of this name")
            live["metadata"].pop("resourceVersion", None)
            return {**live, "status": status}

        with gone_is_fine():
            metadata = found["metadata"]
            self.objects.change(resource, metadata.get("namespace", ""), metadata["name"], edit, status=True)

    def _owned(self, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        pods = self.objects.list(self.objects.resource("pods"), owner["metadata"]["namespace"])
        return [
            pod
            for pod in pods
            if any(each["uid"] == uid for each in pod["metadata"].get("ownerReferences") or [])
        ]

    def _make_pod(self, owner: Object, template: Object, labels: dict[str, str]) -> Object:
        metadata = template.get("metadata") or {}
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": True}
        pod = {
            "metadata": {
                "generateName": f"{owner['metadata']['name'][:57]}-",
                "labels": {**(metadata.get("labels") or {}), **labels},
                "annotations": metadata.get("annotations") or {},
                "ownerReferences": [{**reference, "blockOwnerDeletion": True}],
            },
            "spec": template["spec"],
        }
        return self.objects.create(
            self.objects.resource("pods"), owner["metadata"]["namespace"], pod, "controller"
        )

    def _delete(self, pod: Object) -> None:
        if "deletionTimestamp" not in pod["metadata"]:
            with gone_is_fine(409):
                where = (pod["metadata"]["namespace"], pod["metadata"]["name"])
                self.delete(self.objects, self.objects.resource("pods"), *where, deleting.only(pod))

    def _job(self, job: Object) -> None:
        uid, spec, status = job["metadata"]["uid"], job["spec"], job.get("status") or {}
        if "deletionTimestamp" in job["metadata"]:
            return None
        ended = [
            each["type"] for each in status.get("conditions", []) if each["type"] in ("Complete", "Failed")
        ]
        if ended:
            return self._time_to_live(job)
        started = self._since.setdefault(uid, time.monotonic())
        pods = self._owned(job)
        known = self._job_pods.setdefault(uid, set())
        failed, done = self._counts(pods, known)
        active = [pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
        told = {
            "startTime": status.get("startTime") or now(),
            "active": len(active),
            "failed": failed,
            "succeeded": done,
        }
        told = {key: value for key, value in told.items() if value}
        limit_s = spec.get("activeDeadlineSeconds")
        if done >= spec.get("completions", 1):
            told |= {
                "completionTime": now(),
                "conditions": [_condition("Complete", "CompletionsReached", "")],
            }
        elif failed > spec.get("backoffLimit", 6):
            told["conditions"] = [
                _condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
            ]
        elif limit_s is not None and time.monotonic() - started > limit_s:
            for pod in active:
                self._delete(pod)
            told["conditions"] = [
                _condition("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
            ]
        elif not active and not spec.get("suspend"):
            name = job["metadata"]["name"]
            labels = {"job-name": name, "controller-uid": uid}
            labels |= {f"batch.kubernetes.io/{key}": value for key, value in labels.items()}
            known.add(self._make_pod(job, spec["template"], labels)["metadata"]["uid"])
            told["active"] = 1
        if told != status:
            self.set_status(self.objects.resource("jobs"), job, told)
        return None

    def _counts(self, pods: list[Object], known: set[str]) -> tuple[int, int]:
        """Pods that failed, those that somebody deleted among them, and pods that succeeded."""
        phases = {pod["metadata"]["uid"]: pod.get("status", {}).get("phase") for pod in pods}
        gone = known - phases.keys()
        values = list(phases.values())
        return values.count("Failed") + len(gone), values.count("Succeeded")

    def _time_to_live(self, job: Object) -> None:
        uid, limit_s = job["metadata"]["uid"], job["spec"].get("ttlSecondsAfterFinished")
        ended = self._since.setdefault(f"{uid} ended", time.monotonic())
        if limit_s is not None and time.monotonic() - ended > limit_s:
            with gone_is_fine(409):
                where = (job["metadata"]["namespace"], job["metadata"]["name"])
                options = {"propagationPolicy": "Background", **deleting.only(job)}
                self.delete(self.objects, self.objects.resource("jobs"), *where, options)

    def _deployment(self, found: Object) -> None:
        if "deletionTimestamp" in found["metadata"]:
            return
        spec, wanted = found["spec"], found["spec"].get("replicas", 1)
        key = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:10]
        pods = [pod for pod in self._owned(found) if "deletionTimestamp" not in pod["metadata"]]
        pods = [pod for pod in pods if pod.get("status", {}).get("phase") != "Failed"]
        new = [pod for pod in pods if pod["metadata"]["labels"].get("pod-template-hash") == key]
        old = [pod for pod in pods if pod not in new]
        recreate = (spec.get("strategy") or {}).get("type") == "Recreate"
        if not (recreate and old):
            for _ in range(wanted - len(new)):
                new.append(self._make_pod(found, spec["template"], {"pod-template-hash": key}))
        for pod in sorted(new, key=_ready)[: max(0, len(new) - wanted)]:
            self._delete(pod)
        ready_new = [pod for pod in new if _ready(pod)]
        surplus = len(old) if recreate else max(0, len(ready_new) + len(old) - wanted)
        for pod in sorted(old, key=_ready)[:surplus]:
            self._delete(pod)
        self._tell_deployment(found, new[:wanted] if wanted else [], old[surplus:])

    def _tell_deployment(self, found: Object, new: list[Object], old: list[Object]) -> None:
        uid, spec = found["metadata"]["uid"], found["spec"]
        wanted, ready = spec.get("replicas", 1), sum(_ready(pod) for pod in [*new, *old])
        updated_ready = sum(_ready(pod) for pod in new)
        state = (found["metadata"]["generation"], len(new), ready, len(old))
        if self._progress.get(uid, (None, 0.0))[0] != state:
            self._progress[uid] = (state, time.monotonic())
        stalled = time.monotonic() - self._progress[uid][1] > spec.get("progressDeadlineSeconds", 600)
        whole = updated_ready == wanted and not old and len(new) == wanted
        progressing = ("True", "NewReplicaSetAvailable") if whole else ("True", "ReplicaSetUpdated")
        if stalled and not whole:
            progressing = ("False", "ProgressDeadlineExceeded")
        available = "True" if ready >= wanted else "False"
        told = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": len(new) + len(old),
            "updatedReplicas": len(new),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(0, wanted - ready),
            "conditions": [
                {
                    "type": "Available",
                    "status": available,
                    "reason": f"Minimum{'Replicas' if available == 'True' else 'ReplicasUn'}available",
                },
                {"type": "Progressing", "status": progressing[0], "reason": progressing[1]},
            ],
        }
        told = {key: value for key, value in told.items() if value != 0 or key == "observedGeneration"}
        if told != found.get("status"):
            self.set_status(self.objects.resource("deployments"), found, told)


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _condition(kind: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}
