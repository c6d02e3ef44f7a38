"""ModelJobs whose steps run in pods of a cluster's double, as real processes that ask a real API."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catchment.model_jobs import manager
from catchment.model_jobs.kubernetes import executor
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from tests.api.serving import ApiProcess, api_process
from tests.conftest import free_port, wait_until
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble
from tests.kubernetes_double.node import ClusterWithNode
from tests.library.model_jobs.conftest import ANNA, small_onnx, upload, work

END_S = 60.0
"""More than anything takes that waits for no deadline."""
START_S = 45.0
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
        ended: Future[dict[str, Any]] = Future()

        def work_off() -> None:
            try:
                ended.set_result(work(self.store, name))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                ended.set_exception(error)

        threading.Thread(target=work_off, daemon=True).start()
        yield lambda: ended.result(END_S)
        ended.result(END_S)

    def await_message(self, text: str, name: str = "job") -> dict[str, Any]:
        """The ModelJob, once its message has these words."""

        def told() -> dict[str, Any] | None:
            found = self.job(name)
            return found if text in found["status"]["message"] else None

        found: dict[str, Any] = wait_until(told, timeout_s=END_S, what=f"the message {text!r}")
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
    settings = _settings(
        tmp_path, cluster_api, "http://127.0.0.1:9", model_job_start_s=START_S, job_lease_s=5.0
    )
    migrate(settings)
    store = open_store(settings)
    upload(store, "v1", small_onnx(tmp_path / "net.onnx"))
    manager.create(store, "default", {"metadata": {"name": "job"}, "spec": BODY}, ANNA)
    yield Cluster(cluster_api, store, tmp_path / "pods", None, tmp_path / "hold")
    store.close()


class Clock:
    """The machine's, which tests can have run ahead."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic() + self._ahead_s

    def sleep(self, seconds: float) -> None:
        """As it is."""
        time.sleep(seconds)

    def skip(self, seconds: float) -> None:
        """So many seconds pass at once."""
        self._ahead_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """By which the executor waits."""
    made = Clock()
    monkeypatch.setattr(executor, "time", made)
    return made


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
