"""The fake node: schedules pods, starts their containers as scripted, and tells how they are."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes_double.logs import Logs
from tests.kubernetes_double.objects import Object, Objects, now
from tests.kubernetes_double.outcomes import Outcome, Script
from tests.kubernetes_double.problems import Problem, gone_is_fine

MOST_RESTARTS = 3
"""After so many a container stays in CrashLoopBackOff."""


@dataclass
class _Container:
    """One container of a pod that was scheduled."""

    spec: Object
    outcome: Outcome
    init: bool
    begun: bool = False
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None
    state: dict[str, Any] = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False

    def status(self) -> dict[str, Any]:
        """As in the pod's status."""
        told = {"name": self.spec["name"], "image": self.spec["image"], "imageID": "", "state": self.state}
        started = "running" in self.state
        more = {
            "lastState": self.last,
            "restartCount": self.restarts,
            "ready": self.ready,
            "started": started,
        }
        return {**told, **more}


@dataclass
class Kubelet:
    """Moves pods on; called again and again by one thread."""

    objects: Objects
    logs: Logs
    script: Script
    pods: dict[str, list[_Container]] = field(default_factory=dict)
    _told: set[tuple[str, str, str]] = field(default_factory=set)
    _addresses: int = 1

    def advance(self, pod: Object) -> None:
        """One step of one pod."""
        metadata, uid = pod["metadata"], pod["metadata"]["uid"]
        if "deletionTimestamp" in metadata:
            return self._removed(pod)
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return self._end(uid)
        if uid not in self.pods:
            return self._scheduled(pod)
        containers = self.pods[uid]
        for container in containers:
            if container.init and not self._run(pod, container):
                break
        else:
            for container in containers:
                if not container.init:
                    self._run(pod, container)
        return self._tell(pod, containers)

    def forget(self, uids: set[str]) -> None:
        """End what belongs to pods that are gone, deleted by force for one."""
        for uid in set(self.pods) - uids:
            self._end(uid)
            del self.pods[uid]

    def busy(self) -> bool:
        """Whether real processes run, or readiness is waited for."""
        return any(each.process is not None for containers in self.pods.values() for each in containers)

    def evict(self, pod: Object, message: str) -> None:
        """The pod's node needs the room."""
        self._end(pod["metadata"]["uid"])
        self._write(pod, {"phase": "Failed", "reason": "Evicted", "message": message, "startTime": now()})
        self._event(pod, "Evicted", message)

    def finish(self, uid: str, code: int, reason: str) -> None:
        """End the containers of a pod that runs on."""
        for container in self.pods[uid]:
            if "running" in container.state and container.process is None:
                container.outcome = Outcome("ends", code, reason)

    def _scheduled(self, pod: Object) -> None:
        parts = [(each, True) for each in pod["spec"].get("initContainers") or []]
        parts += [(each, False) for each in pod["spec"]["containers"]]
        taken = [_Container(each, self.script.take(pod, each), init) for each, init in parts]
        waits = [each.outcome for each in taken if each.outcome.kind == "unschedulable"]
        if waits:
            self.pods[pod["metadata"]["uid"]] = taken
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": waits[0].message,
            }
            self._write(pod, {"phase": "Pending", "conditions": [{**condition, "lastTransitionTime": now()}]})
            return self._event(pod, "FailedScheduling", waits[0].message)
        self.pods[pod["metadata"]["uid"]] = taken
        self._addresses += 1
        address = f"10.244.0.{self._addresses}"
        if any(each.outcome.kind == "process" for each in taken):
            address = "127.0.0.1"
        with gone_is_fine(409):  # or it is being deleted
            self.objects.bind(pod["metadata"]["namespace"], pod["metadata"]["name"], "node-1")
        self._write(pod, {"phase": "Pending", "podIP": address, "hostIP": "127.0.0.1", "startTime": now()})
        return self._event(
            pod, "Scheduled", f"Successfully assigned {pod['metadata']['name']} to node-1", "Normal"
        )

    def _run(self, pod: Object, container: _Container) -> bool:
        """One step of one container; whether it has ended well."""
        kind, outcome = container.outcome.kind, container.outcome
        if "terminated" in container.state:
            return bool(container.state["terminated"]["exitCode"] == 0)
        if not container.begun and not self._has_secrets(pod):
            return False  # as the kubelet waits for what it is to mount
        if kind in ("pull", "invalid image", "creating", "unschedulable"):
            self._waits(pod, container)
            return False
        if not container.begun:
            self._begin(pod, container)
            return False
        if kind == "evicted":
            self.evict(pod, outcome.message)
        elif kind in ("ends", "crash loop"):
            self._ended(pod, container, outcome.code, outcome.reason)
        elif kind == "process":
            self._poll(pod, container)
        else:
            container.ready = kind == "runs"
        return "terminated" in container.state and container.state["terminated"]["exitCode"] == 0

    def _has_secrets(self, pod: Object) -> bool:
        named = [each["secret"] for each in pod["spec"].get("volumes") or [] if "secret" in each]
        secrets, place = self.objects.resource("secrets"), pod["metadata"]["namespace"]
        missing = [each for each in named if self.objects.find(secrets, place, each["secretName"]) is None]
        return all(each.get("optional") for each in missing)

    def _waits(self, pod: Object, container: _Container) -> None:
        image, kind = container.spec["image"], container.outcome.kind
        if kind == "pull":
            why = container.outcome.message or f'failed to resolve reference "{image}": not found'
            first = container.state["waiting"]["reason"] == "ContainerCreating"
            reason = "ErrImagePull" if first else "ImagePullBackOff"
            message = why if first else f'Back-off pulling image "{image}"'
            self._event(pod, "Failed" if first else "BackOff", message)
        elif kind == "invalid image":
            reason, message = (
                "InvalidImageName",
                f'Failed to apply default image tag "{image}": couldn\'t parse image name',
            )
            self._event(pod, "InspectFailed", message)
        else:
            return
        container.state = {"waiting": {"reason": reason, "message": message}}

    def _begin(self, pod: Object, container: _Container) -> None:
        uid, name = pod["metadata"]["uid"], container.spec["name"]
        container.begun, container.state, container.ready = True, {"running": {"startedAt": now()}}, False
        self.logs.begin(uid, name)
        if container.outcome.log:
            self.logs.say(uid, name, container.outcome.log)
        if container.outcome.start is not None:
            container.process = container.outcome.start(pod, container.spec)
            container.reader = threading.Thread(
                target=self._read, args=(uid, name, container.process), daemon=True
            )
            container.reader.start()
        self._event(pod, "Started", f"Started container {name}", "Normal")

    def _read(self, uid: str, name: str, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None:
            for line in process.stdout:
                self.logs.say(uid, name, line)

    def _poll(self, pod: Object, container: _Container) -> None:
        assert container.process is not None
        code = container.process.poll()
        if code is None:
            ask = container.outcome.ready
            container.ready = ask is None or ask(pod)
            return
        if container.reader is not None:
            container.reader.join(5)
        if container.process.stdout is not None:
            container.process.stdout.close()
        container.process = None
        code = 128 - code if code < 0 else code
        self._ended(pod, container, code, "Completed" if code == 0 else "Error")

    def _ended(self, pod: Object, container: _Container, code: int, reason: str) -> None:
        ended = {"terminated": {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}}
        self.logs.end(pod["metadata"]["uid"], container.spec["name"])
        policy = pod["spec"].get("restartPolicy", "Always")
        # An init container that ended well is done, whatever the policy.
        again = policy != "Never" and (code != 0 or (policy == "Always" and not container.init))
        container.ready = False
        if not again:
            container.state = ended
        elif container.restarts < MOST_RESTARTS:
            container.last, container.begun = ended, False
            container.restarts += 1
            container.state = {"waiting": {"reason": "ContainerCreating"}}
        else:
            container.last = ended
            message = f"back-off 40s restarting failed container={container.spec['name']}"
            container.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
            container.outcome = Outcome("creating")
            self._event(pod, "BackOff", message)

    def _tell(self, pod: Object, containers: list[_Container]) -> None:
        live = self.objects.find(_pods(self.objects), pod["metadata"]["namespace"], pod["metadata"]["name"])
        if live is None or live.get("status", {}).get("phase") == "Failed":
            return
        mains = [each for each in containers if not each.init]
        inits = [each for each in containers if each.init]
        if any(each.outcome.kind == "unschedulable" for each in containers):
            return
        phase = _phase(inits, mains)
        whole = bool(mains) and all(each.ready for each in mains)
        kept, gated = _gates(live)
        ready = whole and gated
        told = {
            "phase": phase,
            "containerStatuses": [each.status() for each in mains],
            "conditions": [
                *kept,
                {"type": "PodScheduled", "status": "True"},
                {"type": "ContainersReady", "status": "True" if whole else "False"},
                {"type": "Ready", "status": "True" if ready else "False"},
            ],
        }
        if inits:
            told["initContainerStatuses"] = [each.status() for each in inits]
        self._write(pod, {**live.get("status", {}), **told})

    def _write(self, pod: Object, status: dict[str, Any]) -> None:
        def edit(live: Object) -> Object:
            if live["metadata"]["uid"] != pod["metadata"]["uid"]:
                raise Problem(404, "it is another pod of this name")
            live["status"] = status
            live["metadata"].pop("resourceVersion", None)
            return live

        with gone_is_fine():  # it was deleted meanwhile
            self.objects.change(
                _pods(self.objects), pod["metadata"]["namespace"], pod["metadata"]["name"], edit, status=True
            )

    def _event(self, pod: Object, reason: str, message: str, kind: str = "Warning") -> None:
        metadata = pod["metadata"]
        if (metadata["uid"], reason, message) in self._told:
            return
        self._told.add((metadata["uid"], reason, message))
        about = {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
        }
        event = {
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": {**about, "uid": metadata["uid"]},
            "reason": reason,
            "message": message,
            "type": kind,
            "source": {"component": "kubelet"},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }
        with gone_is_fine():
            self.objects.create(self.objects.resource("events"), metadata["namespace"], event, "kubelet")

    def _removed(self, pod: Object) -> None:
        self._end(pod["metadata"]["uid"])
        if not pod["metadata"].get("finalizers"):
            with gone_is_fine():
                self.objects.remove(
                    _pods(self.objects), pod["metadata"]["namespace"], pod["metadata"]["name"]
                )

    def _end(self, uid: str) -> None:
        for container in self.pods.get(uid, []):
            process = container.process
            if process is not None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)
                if container.reader is not None:
                    container.reader.join(5)
                if process.stdout is not None:
                    process.stdout.close()
                container.process = None
            self.logs.end(uid, container.spec["name"])


def _pods(objects: Objects) -> Any:
    return objects.resource("pods")


def _gates(pod: Object) -> tuple[list[dict[str, Any]], bool]:
    """The conditions that others set for a pod's readiness gates, and whether all of them hold."""
    wanted = {each["conditionType"] for each in pod["spec"].get("readinessGates") or []}
    conditions = (pod.get("status") or {}).get("conditions") or []
    kept = [each for each in conditions if each["type"] in wanted]
    return kept, wanted == {each["type"] for each in kept if each["status"] == "True"}


def _phase(inits: list[_Container], mains: list[_Container]) -> str:
    codes = [each.state["terminated"]["exitCode"] for each in inits if "terminated" in each.state]
    if any(codes):
        return "Failed"
    if len(codes) < len(inits):
        return "Pending"
    ended = [each.state["terminated"]["exitCode"] for each in mains if "terminated" in each.state]
    if len(ended) == len(mains):
        return "Failed" if any(ended) else "Succeeded"
    begun = any(each.begun or each.restarts for each in mains)
    return "Running" if begun else "Pending"
