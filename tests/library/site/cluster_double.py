"""A cluster for a site's agent: a Kubernetes API over TLS, and a node that runs pods as confined processes.

It takes Jobs that are valid by the official schema, gives each a pod, and runs its container with what the
pod's mounts show and nothing else of the disk but programs. Switches say what goes wrong.
"""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

from catchment.site import environment, view
from catchment.site.file_tree import Place
from catchment.site.launch import Running
from catchment.site.launch_file import Launch
from catchment.site.limits import Limits
from catchment.site.sandbox import Sandbox
from catchment.tls.authority import Authority
from tests.deployments.restrictions import check_restricted

NAMESPACE = "catchment-site"
TOKEN = "the-agents-service-account"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@dataclass
class ClusterDouble:
    """The cluster.

    Attributes:
        folder: of its certificates, and of the agent's `access`.
        volumes: name of a pod's volume -> folder.
        fault: what happens to new pods: "" they run; "no node", "no image": they wait; "out of memory",
            "evicted": they are killed at once.
        refuse: status and message of every answer, while set.
        jobs: by name, those that are there.
        made: all Jobs that were ever made.
    """

    folder: Path
    volumes: dict[str, Path]
    fault: str = ""
    refuse: tuple[int, str] | None = None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    _pods: dict[str, Pod] = field(default_factory=dict)

    def start(self) -> None:
        """Listen."""
        authority = Authority(self.folder / "tls")
        authority.create([], [])
        self.access = self.folder / "access"
        self.access.mkdir()
        (self.access / "token").write_text(TOKEN)
        (self.access / "namespace").write_text(NAMESPACE)
        (self.access / "ca.crt").write_bytes((self.folder / "tls" / "ca.pem").read_bytes())
        double = self

        class Handler(_Handler):
            cluster = double

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "tls" / "server.pem", self.folder / "tls" / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What Kubernetes tells a pod of itself."""
        host, port = self._server.server_address[:2]
        return {"KUBERNETES_SERVICE_HOST": str(host), "KUBERNETES_SERVICE_PORT": str(port)}

    def stop(self) -> None:
        """End, with all pods."""
        for name in list(self.jobs):
            self.delete(name)
        self._server.shutdown()
        self._server.server_close()

    def create(self, manifest: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A new Job, and its pod."""
        kubernetes_validate.validate(manifest, "1.33", strict=True)
        check_restricted(manifest)
        name = manifest["metadata"]["name"]
        with self.changed:
            if name in self.jobs:
                return 409, {"message": f'jobs.batch "{name}" already exists'}
            self.jobs[name] = manifest
            self.made.append(manifest)
            self._pods[name] = Pod(manifest["spec"]["template"], self.volumes, self.fault)
            self.changed.notify_all()
        return 201, manifest

    def delete(self, name: str) -> tuple[int, dict[str, Any]]:
        """Remove a Job; its pod is told to end, and is gone when it has."""
        with self.changed:
            job = self.jobs.pop(name, None)
            self.changed.notify_all()
        if job is None:
            return 404, {"message": f'jobs.batch "{name}" not found'}
        self._pods[name].stop()
        return 200, job

    def pods(self, job: str) -> list[dict[str, Any]]:
        """The pods of a Job that is there."""
        return [self._pods[job].shown()] if job in self.jobs else []

    def until_gone(self, name: str, timeout_s: float) -> None:
        """Wait until a Job was deleted and its pod's processes have ended."""
        with self.changed:
            assert self.changed.wait_for(lambda: name not in self.jobs, timeout_s), f"{name} is still there"
        self._pods[name].ended.wait(timeout_s)


class Pod:
    """One pod: a container run by the keeper of this machine, in a file tree made of its mounts."""

    def __init__(self, template: dict[str, Any], volumes: dict[str, Path], fault: str) -> None:
        self._fault = fault
        self._running: Running | None = None
        self._code: int | None = None
        self.ended = threading.Event()
        if fault:
            self.ended.set()
            return
        (container,) = template["spec"]["containers"]
        places = [*view.machine(), *(_place(mount, volumes) for mount in container["volumeMounts"])]
        launch = Launch(
            argv=(*container["command"], *container["args"]),
            script="",
            cwd="/",
            env=environment.with_python_path({"PATH": "/usr/bin:/bin", "HOME": "/tmp"}),
            rank_env=({},),
            timeout_s=120,
            grace_s=template["spec"]["terminationGracePeriodSeconds"],
            limits=Limits(memory_mb=4000, data_mb=0, file_mb=4000, threads=1),
            sandbox=Sandbox(
                user=True, files=True, network=True, processes=True, places=tuple(places), shared_mb=64
            ),
        )
        self._folder = volumes["home"]
        base = volumes["home"].parent / f"base-{id(self)}"
        base.mkdir()
        launch = Launch(**{**vars(launch), "sandbox": _at(launch.sandbox, str(base))})
        self.log = base.with_suffix(".log")
        self._running = Running(launch, self.log, 100_000)
        self._running.start_cold()
        self._running.begun()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        assert self._running is not None
        outcome = self._running.wait()
        self._code = outcome.code if outcome.ending == "exited" else 137
        self.ended.set()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when the grace is over."""
        if self._running is not None and not self.ended.is_set():
            self._running.stop(self._running.launch.grace_s)

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        return {"metadata": {"name": "pod"}, "status": self._status()}

    def _status(self) -> dict[str, Any]:
        if self._fault == "no node":
            why = {"reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient memory."}
            return {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", **why}]}
        if self._fault == "no image":
            why = {"reason": "ErrImagePull", "message": "manifest unknown"}
            return {"phase": "Pending", "containerStatuses": [{"state": {"waiting": why}}]}
        if self._fault == "out of memory":
            why = {"reason": "OOMKilled", "exitCode": 137}
            return {"phase": "Failed", "containerStatuses": [{"state": {"terminated": why}}]}
        if self._fault == "evicted":
            return {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "The node was low on resource: memory.",
            }
        if not self.ended.is_set():
            return {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
        ended = {"exitCode": self._code, "reason": "Completed" if self._code == 0 else "Error"}
        phase = "Succeeded" if self._code == 0 else "Failed"
        return {"phase": phase, "containerStatuses": [{"state": {"terminated": ended}}]}


def _place(mount: dict[str, Any], volumes: dict[str, Path]) -> Place:
    source = volumes[mount["name"]] / mount.get("subPath", ".")
    assert source.exists(), f"{mount}: Kubernetes would make a folder of that name"
    return Place(mount["mountPath"], "read" if mount.get("readOnly") else "write", str(source.resolve()))


def _at(sandbox: Sandbox | None, base: str) -> Sandbox:
    assert sandbox is not None
    return Sandbox(**{**vars(sandbox), "base": base})


class _Handler(BaseHTTPRequestHandler):
    cluster: ClusterDouble
    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _handle(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"message": "Unauthorized"})
        if self.cluster.refuse is not None:
            return self._answer(self.cluster.refuse[0], {"message": self.cluster.refuse[1]})
        return self._answer(*self._routed(body))

    def _routed(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(self.path)
        wanted = parse_qs(parts.query).get("labelSelector", [""])[0]
        labels = dict(pair.split("=", 1) for pair in wanted.split(",") if pair)
        if self.command == "POST" and parts.path == JOBS:
            assert parse_qs(parts.query)["fieldValidation"] == ["Strict"]
            return self.cluster.create(body)
        if self.command == "GET" and parts.path == JOBS:
            jobs = self.cluster.jobs.values()
            return 200, {
                "items": [job for job in jobs if labels.items() <= job["metadata"]["labels"].items()]
            }
        if self.command == "GET" and parts.path == PODS:
            return 200, {"items": self.cluster.pods(labels["batch.kubernetes.io/job-name"])}
        if self.command == "DELETE" and parts.path.startswith(f"{JOBS}/"):
            return self.cluster.delete(parts.path.rpartition("/")[2])
        return 404, {"message": f"no {self.command} of {parts.path}"}

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815

    def log_message(self, *_words: object) -> None:
        """Say nothing."""
