"""Pods that really fetch, read, convert and deliver: what comes out is what a confined child gives here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import select

from catchment.catalog import manager as catalog
from catchment.model_jobs import manager, pods
from catchment.store.schema import tokens
from tests.conftest import wait_until
from tests.library.model_jobs.conftest import ANNA, body, small_onnx, upload
from tests.library.model_jobs.kubernetes.conftest import END_S, Cluster


def lines(cluster: Cluster, name: str = "job") -> list[str]:
    told = pods.log_details(cluster.store, "default", name, None, pods.Selection(offset_from=-500))
    return [each["content"] for each in told["logs"]]


def create(cluster: Cluster, tmp_path: Path, **spec: Any) -> None:
    upload(cluster.store, "v1", small_onnx(tmp_path / "net.onnx"))
    manager.create(cluster.store, "default", body(**spec), ANNA)


CONVERSION = {"mmdnn": {"from": "ONNX", "to": "ONNX"}, "options": {"operation": "opset", "opset": 18}}


def test_an_extraction_in_a_pod_finds_what_one_here_finds(real: Cluster, tmp_path: Path) -> None:
    create(real, tmp_path, extraction={"format": "ONNX"})
    with real.working() as result:
        found = result()
    assert found["status"]["phase"] == "Succeeded", found["status"]
    assert set(found["status"]["steps"]) == {"pull", "extract", "push"}
    signature = found["status"]["steps"]["extract"]["signature"]
    assert signature["inputs"] == [{"name": "x", "size": [-1, 4], "dType": "float32"}]
    assert signature["layers"] == {"Gemm": 1, "Relu": 1}
    assert any("model-initializer: INFO fetched" in line for line in lines(real))
    (job,) = real.jobs()
    executor = job["spec"]["template"]["spec"]["initContainers"][1]
    assert executor["image"] == "registry.example.com/catchment-extraction:1.0"
    left = real.store.db.read(lambda tx: tx.execute(select(tokens).where(tokens.c.role == "worker")).all())
    assert left == []


def test_a_conversion_in_pods_makes_a_version_that_passed_the_gate(real: Cluster, tmp_path: Path) -> None:
    create(real, tmp_path, conversion=CONVERSION, desiredTag="default/net:v2")
    with real.working() as result:
        found = result()
    assert found["status"]["phase"] == "Succeeded", (found["status"], lines(real))
    report = found["status"]["steps"]["convert"]["report"]
    assert report["passed"]
    assert report["facts"]
    (made,) = catalog.get_versions(real.store, "default", "net", "v2")
    assert made["signature"]["outputs"] == [{"name": "y", "size": [-1, 3], "dType": "float32"}]
    steps = [job["metadata"]["labels"]["catchment.io/step"] for job in real.jobs()]
    assert sorted(steps) == ["convert", "extract", "verify"]
    images = {job["spec"]["template"]["spec"]["initContainers"][1]["image"] for job in real.jobs()}
    assert images == {f"registry.example.com/catchment-{name}:1.0" for name in ("base", "extraction")}


def test_a_damaged_model_fails_with_the_readers_words(real: Cluster, tmp_path: Path) -> None:
    path = small_onnx(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    upload(real.store, "v1", path)
    manager.create(real.store, "default", body(extraction={"format": "ONNX"}), ANNA)
    with real.working() as result:
        found = result()
    assert found["status"]["phase"] == "Failed"
    assert "the file is damaged or cut off" in found["status"]["message"]
    real.api.wait_for("jobs", lambda jobs: jobs[0]["status"].get("conditions"))
    (pod,) = real.api.list("pods")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 19


def test_the_container_that_opens_the_model_has_no_token(real: Cluster, tmp_path: Path) -> None:
    create(real, tmp_path, extraction={"format": "ONNX"})
    with real.working() as result:
        result()
    (pod,) = real.api.list("pods")
    executor = pod["spec"]["initContainers"][1]
    assert all("token" not in mount["name"] for mount in executor["volumeMounts"])
    assert not [each for each in executor["env"] if "WORK" in each["name"]]
    (secret,) = real.api.list("secrets")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == real.jobs()[0]["metadata"]["uid"]


SCRIPT = """
import sys
from catchment.settings import Settings
from catchment.store import open_store
from tests.library.model_jobs.conftest import work
work(open_store(Settings.model_validate_json(sys.argv[1])))
"""


def test_a_run_that_is_resumed_finds_its_job_again(real: Cluster, tmp_path: Path) -> None:
    """The first process is killed while the pod works; the second one takes what the same pod brings."""
    create(real, tmp_path, extraction={"format": "ONNX"})
    real.hold.touch()
    told = real.store.settings.model_copy(update={"job_lease_s": 2.0}).model_dump_json()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen([sys.executable, "-c", SCRIPT, told], env=env)
    try:
        real.await_message("modelJob running")
        real.api.wait_for("pods", lambda pods: pods and "running" in str(pods[0].get("status", {})))
    finally:
        first.kill()
        first.wait(10)
    (before,) = real.jobs()
    with real.working() as result:
        claims = {"StartRunning", "Resumed"}
        wait_until(
            lambda: sum(each in claims for each in real.reasons()) == 2,
            timeout_s=END_S,
            what="the second run",
        )
        real.hold.unlink()
        found = result()
    assert found["status"]["phase"] == "Succeeded", found["status"]
    (after,) = real.jobs()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
