"""ModelJobs whose steps run in pods of a cluster's double, as real processes that ask a real API."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catchment.model_jobs import manager
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from tests.api.serving import ApiProcess, api_process
from tests.conftest import free_port, wait_until
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble
from tests.kubernetes_double.node import ClusterWithNode
from tests.library.model_jobs.conftest import ANNA, small_onnx, upload, work

IMAGE = "registry.example.com/catchment-{backend}:1.0"


@dataclass
class Cluster:
    """A store whose ModelJobs run in pods, and these pods.

    Attributes:
        root: below it each pod has a folder.
        hold: while this file is there, executors wait before they begin.
    """

    api: ClusterWithNode
    store: Store
    root: Path
    server: ApiProcess | None
    hold: Path

    def start(self, pod: Any, container: Any) -> subprocess.Popen[str]:
        """What a kubelet does, as far as a process of this machine can have it."""
        place = self.root / pod["metadata"]["uid"]
        for name in ("work/input", "work/output", "tmp"):
            (place / name).mkdir(parents=True, exist_ok=True)
        env = {each["name"]: each["value"] for each in container["env"]}
        env |= {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
        env |= {"CATCHMENT_WORK_ROOT": str(place), "TMPDIR": str(place / "tmp"), "HOME": str(place / "tmp")}
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        if "/var/run/catchment" in mounts:
            (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "token"]
            secret = self.api.get("secrets", volume["secret"]["secretName"])
            assert secret is not None
            (place / "token").write_bytes(base64.b64decode(secret["data"]["token"]))
            env["CATCHMENT_WORK_TOKEN_FILE"] = str(place / "token")
        command = [sys.executable, *container["command"][1:]]
        if container["name"] == "executor":
            waits = f"import os, sys, time\nwhile os.path.exists({str(self.hold)!r}): time.sleep(0.02)\n"
            command = [sys.executable, "-c", waits + f"os.execv(sys.executable, {command!r})"]
        return subprocess.Popen(
            command, env=env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def job(self, name: str = "job") -> dict[str, Any]:
        """The ModelJob as GET shows it."""
        return manager.get(self.store, "default", name)

    def jobs(self) -> list[dict[str, Any]]:
        """The cluster's Jobs."""
        return self.api.list("jobs")

    def reasons(self, name: str = "job") -> list[str]:
        """Of the ModelJob's events."""
        return [
            each["reason"]
            for each in manager.events(self.store, "default", name, start=0, limit=None)["items"]
        ]

    @contextmanager
    def working(self, name: str = "job") -> Iterator[Callable[[], dict[str, Any]]]:
        """Work a ModelJob off in a thread; the function given waits for its end, and gives the object."""
        ended: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: ended.append(work(self.store, name)), daemon=True)
        thread.start()

        def result() -> dict[str, Any]:
            thread.join(60)
            assert ended, "the ModelJob has not ended"
            return ended[0]

        yield result
        thread.join(60)

    def await_message(self, text: str, name: str = "job") -> dict[str, Any]:
        """The ModelJob, once its message has these words."""

        def told() -> dict[str, Any] | None:
            found = self.job(name)
            return found if text in found["status"]["message"] else None

        found: dict[str, Any] = wait_until(told, timeout_s=20, what=f"the message {text!r}")
        return found


def _settings(tmp_path: Path, api: ClusterWithNode, url: str, **more: Any) -> Settings:
    return Settings(
        home=tmp_path / "home",
        cache_dir=tmp_path / "cache",
        kubeconfig=api.kubeconfig(tmp_path / "kubeconfig"),
        model_job_runner="kubernetes",
        model_job_image=IMAGE,
        model_job_api_url=url,
        **more,
    )


@pytest.fixture
def cluster_api() -> Iterator[ClusterWithNode]:
    """The cluster; tests against another one have another fixture of this name."""
    with KubernetesDouble() as api:
        yield api


@pytest.fixture
def scripted(tmp_path: Path, cluster_api: ClusterWithNode) -> Iterator[Cluster]:
    """Pods do what the test says; there is no API for them."""
    settings = _settings(tmp_path, cluster_api, "http://127.0.0.1:9", model_job_start_s=2.0, job_lease_s=5.0)
    migrate(settings)
    store = open_store(settings)
    upload(store, "v1", small_onnx(tmp_path / "net.onnx"))
    manager.create(store, "default", {"metadata": {"name": "job"}, "spec": BODY}, ANNA)
    yield Cluster(cluster_api, store, tmp_path / "pods", None, tmp_path / "hold")
    store.close()


BODY = {"model": "default/net:v1", "extraction": {"format": "ONNX"}}


@pytest.fixture
def real(tmp_path: Path, cluster_api: ClusterWithNode) -> Iterator[Cluster]:
    """Pods really do their work, with a real API process."""
    (tmp_path / "home").mkdir()
    port = free_port()
    settings = _settings(tmp_path, cluster_api, f"http://127.0.0.1:{port}", model_job_start_s=60.0)
    migrate(settings)
    store = open_store(settings)
    with api_process(tmp_path / "home", port, CATCHMENT_SUPERVISE_S="3600") as server:
        made = Cluster(cluster_api, store, tmp_path / "pods", server, tmp_path / "hold")
        cluster_api.script(outcomes.process(made.start))
        yield made
    store.close()
