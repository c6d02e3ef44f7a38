"""Retraining from a REST call to production and back to "kept", its process killed once on the way."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np

from catchment.client import Client
from tests.conftest import wait_until
from tests.e2e.conftest import System, small_job
from tests.onnx_graphs import linear_onnx

BASE = "/api/v1/namespaces/default/retrain"


def ended(http: httpx.Client, run: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(http.get(f"{BASE}/{run}").json())
        return found["state"] in ("completed", "failed", "cancelled")

    wait_until(over, timeout_s=120, what=f"the retraining to end: {found}")
    return found


def test_a_model_is_trained_again_and_rolled_out_if_it_is_better(system: System, tmp_path):
    with Client(system.url) as client:
        client.models.push(linear_onnx(tmp_path / "net.onnx"), "linear", "graph", "onnx")
        template = small_job(id="template", hyper_parameters={"max_round_num": 2, "save_interval": 2})
        client.create_job("default", template)
        plan = {
            "job": {"template": "template", "begin_with": "specification"},
            "register_as": {"name": "linear", "version": "count"},
            "convert": {"graph": "default/linear:graph"},
            "serving": {"name": "linear"},
        }
        (system.fault_folder / "after_graft").touch()
        with system.http() as http:
            answer = http.post(BASE, json=plan, headers={"Idempotency-Key": "first"})
            assert answer.status_code == 202, answer.text
            run = answer.json()["id"]
            assert answer.headers["Location"] == f"{BASE}/{run}"
            assert http.post(BASE, json=plan, headers={"Idempotency-Key": "first"}).json()["id"] == run
            first = ended(http, run)
            assert first["state"] == "completed", first
            assert not (system.fault_folder / "after_graft").exists()
            assert first["attempts"] == 2
            assert first["message"].startswith("rolled out default/linear:v1-onnx to linear: accuracy 0.5")
            assert first["steps"]["rollout"]["phase"] == "Promoted"
            x = np.array([[3.0, 4.0]], np.float32)
            told = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": x.tolist()}]}
            said = http.post("/seldon/default/linear/v2/models/linear/infer", json=told)
            assert said.json()["outputs"][0]["data"] == [16.0]  # two rounds added 2 to each parameter
            second = ended(http, http.post(BASE, json={**plan, "gate": {"margin": 0.01}}).json()["id"])
        assert (second["state"], second["message"]) == (
            "completed",
            "kept: accuracy 0.5 < 0.5 + 0.01",
        )
        assert "rollout" not in second["steps"]
        assert client.servings.get("linear").models == ("default/linear:v1-onnx",)
        jobs = [job.id for job in client.all_jobs("default") if job.id.startswith("retrain-")]
        assert sorted(jobs) == sorted({first["steps"]["job"]["id"], second["steps"]["job"]["id"]})
        client.servings.delete("linear")


def test_a_stop_ends_the_run_and_its_job(system: System):
    spec = small_job(id="any", parameters={"mode": "slow"}, hyper_parameters={"max_round_num": 50})
    plan = {"job": {"spec": spec}, "register_as": {"name": "slow"}, "convert": None}
    with system.http() as http:
        run = http.post(BASE, json=plan).json()["id"]

        def trains() -> bool:
            job = http.get(f"{BASE}/{run}").json()["steps"].get("job", {})
            return job.get("state") == "RUNNING"

        wait_until(trains, timeout_s=60, what="the job to run")
        assert http.put(f"{BASE}/{run}:stop").status_code == 204
        found = ended(http, run)
    assert found["state"] == "cancelled", found
    assert system.wait_for(found["steps"]["job"]["id"], timeout_s=30)["status"]["state"] == "STOPPED"
