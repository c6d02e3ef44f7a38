"""The double's node for servings: what pods of servings run is run, as processes of this machine."""

from __future__ import annotations

import http.client
import itertools
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from catchment.errors import Refused
from catchment.kubernetes.client import Cluster
from catchment.models.files import files_of, version_digest, with_checksums
from catchment.models.folders import inside_model
from catchment.registry.copying import Place
from catchment.registry.credentials import CredentialsFile
from catchment.registry.opening import Access
from catchment.registry.pushing import push_folder
from catchment.serving.backends.kubernetes import KubernetesBackend
from catchment.serving.workload import ServedModel, ServingKey, Workload
from catchment.settings import Settings
from tests import model_servers
from tests.conftest import ROOT, free_port
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble
from tests.registry_servers import PASSWORD, USER, Server
from tests.serving_workloads import settings

_numbers = itertools.count(1)
SIGNATURE = {
    "inputs": [{"name": "x", "dType": "float32", "size": [-1, 2]}],
    "outputs": [{"name": "y", "dType": "float32", "size": [-1, 2]}],
}


@dataclass
class Node:
    """Runs initializers and model servers of pods; ports and volumes are this machine's.

    Attributes:
        folder: holds the pods' volumes.
        secrets: what the pods' secretKeyRefs mean, by key.
    """

    folder: Path
    secrets: Mapping[str, str] = field(default_factory=dict)
    ports: dict[str, dict[int, int]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def install(self, api: KubernetesDouble) -> None:
        """Have the double's kubelet run Catchment's own containers for real."""
        outcome = outcomes.process(self.start, ready=self.answers)
        api.script(outcome, image="registry.example.org/catchment:*")

    def start(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> subprocess.Popen[str]:
        """The container's command, with its mounts in a folder of the pod and its ports free ones."""
        uid, args = pod["metadata"]["uid"], list(container["args"])
        volumes = {
            each["mountPath"]: str(self.folder / uid / each["name"]) for each in container["volumeMounts"]
        }
        args = [volumes.get(each, each) for each in args]
        if "api.model_server" in container["command"]:
            args = self._on_free_ports(uid, args)
        command = [sys.executable, *container["command"][1:], *args]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(container),
            cwd=ROOT,
        )
        self.processes[uid] = process
        return process

    def answers(self, pod: Mapping[str, Any]) -> bool:
        """The pod's readiness probe, asked of its process."""
        probe = pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]
        port = self.ports.get(pod["metadata"]["uid"], {}).get(8000)
        if port is None:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", probe["path"])
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _on_free_ports(self, uid: str, args: list[str]) -> list[str]:
        wanted = [int(args[args.index(name) + 1]) for name in ("--http-port", "--grpc-port")]
        self.ports[uid] = {port: free_port() for port in wanted}
        swapped = {str(old): str(new) for old, new in self.ports[uid].items()}
        return [swapped.get(each, each) for each in args] + ["--host", "127.0.0.1"]

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        given = {
            each["name"]: each["value"]
            if "value" in each
            else self.secrets[each["valueFrom"]["secretKeyRef"]["key"]]
            for each in container["env"]
        }
        return {**os.environ, **given, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


class KubernetesHarness:
    """A double of a cluster whose pods really serve, and the backend over it."""

    deadline_s = 120.0
    real_servers = True

    def __init__(self, api: KubernetesDouble, registry: Server, folder: Path, **given: Any) -> None:
        self.api, self.registry, self.folder = api, registry, folder
        self.node = Node(folder / "pods", {"username": USER, "password": PASSWORD})
        self.node.install(api)
        self.settings: Settings = settings(serving_registry=f"http://{registry.host}", **given)
        configuration = api.client_configuration()
        configuration.retries = False
        self.cluster = Cluster(self.settings, configuration)
        self.backend = KubernetesBackend(self.settings, self.cluster, address=self.address)

    def address(self, namespace: str, service: str, port: int) -> str:
        """The local port of one of the pods that a Service would lead to."""
        selector = self.api.get("services", service, namespace)["spec"]["selector"]  # type: ignore[index]
        for pod in self.api.list("pods", namespace):
            ready = any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in pod.get("status", {}).get("conditions", [])
            )
            if ready and selector.items() <= pod["metadata"]["labels"].items():
                return f"127.0.0.1:{self.node.ports[pod['metadata']['uid']][port]}"
        raise Refused(f"no pod of {service} is ready")

    def serving(self) -> ServingKey:
        return ServingKey("default", f"digits-{next(_numbers)}", secrets.token_hex(16))

    def model(self, kind: str = "identity") -> ServedModel:
        folder = self.folder / secrets.token_hex(4)
        if kind == "broken":
            (folder / "model").mkdir(parents=True)
            (folder / "model/model.onnx").write_bytes(b"this is no ONNX model")
        else:
            model_servers.identity(folder / "model", "FP32")
        (folder / "ormbfile.yaml").write_text(yaml.safe_dump({"format": "ONNX", "signature": SIGNATURE}))
        return self.push(folder)

    def push(self, folder: Path) -> ServedModel:
        """The version that a folder is, once it is in the registry."""
        files = [with_checksums(each) for each in files_of(folder / "model")]
        digest = version_digest({inside_model(each.name): each.digest for each in files})
        tag = f"v{next(_numbers)}"
        logins = CredentialsFile(
            folder / "none.json",
            {
                "CATCHMENT_REGISTRY_HOST": self.registry.host,
                "CATCHMENT_REGISTRY_USERNAME": USER,
                "CATCHMENT_REGISTRY_PASSWORD": PASSWORD,
            },
        )
        registry = Access(logins).remote(self.registry.host)
        push_folder(folder, Place(registry, "default/net"), tag)
        registry.close()
        inputs, outputs = (tuple(SIGNATURE[kind]) for kind in ("inputs", "outputs"))
        return ServedModel("m", f"default/net:{tag}", digest, "ONNX", inputs, outputs, 1000)

    def crash(self, workload: Workload) -> None:
        pods = self.api.list("pods")
        mine = [pod for pod in pods if pod["metadata"]["labels"].get("catchment.io/workload") == workload.key]
        os.kill(self.node.processes[mine[0]["metadata"]["uid"]].pid, signal.SIGKILL)

    def close(self) -> None:
        self.cluster.close()
