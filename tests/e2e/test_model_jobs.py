"""A model's way through the registry and ModelJobs by a plain HTTP client, as flows of a running system."""

from __future__ import annotations

import io
import time
import zipfile

import httpx

from tests.conftest import wait_until
from tests.library.model_jobs.conftest import small_onnx

BASE = "/api/v1alpha1"
WHO = {"X-Tenant": "lab", "X-User": "anna"}


def test_an_uploaded_model_is_extracted_by_itself_and_converted_on_demand(system, tmp_path):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(small_onnx(tmp_path / "model.onnx"), "small/model.onnx")
    with system.http() as http:
        path = f"{BASE}/projects/default/models/small/versions/v1/upload"
        answer = http.post(path, files={"file": ("small.zip", zipped.getvalue())}, headers=WHO)
        assert answer.status_code == 201, answer.text
        listed = http.get(f"{BASE}/namespaces/default/modeljobs").json()["items"]
        (name,) = [each["metadata"]["name"] for each in listed if "-small-v1-" in each["metadata"]["name"]]
        extracted = _ended(http, name)
        assert extracted["status"]["phase"] == "Succeeded", extracted
        (version,) = http.get("/api/v1/namespaces/default/models/small").json()["models"]
        assert version["signature"]["inputs"] == [{"name": "x", "size": [-1, 4], "dType": "float32"}]
        pair = {"mmdnn": {"from": "ONNX", "to": "ONNX"}, "options": {"operation": "slim"}}
        spec = {"model": "default/small:v1", "desiredTag": "default/small:slim", "conversion": pair}
        body = {"metadata": {"name": "slims"}, "spec": spec}
        assert http.post(f"{BASE}/namespaces/default/modeljobs", json=body).status_code == 201
        converted = _ended(http, "slims")
        assert converted["status"]["phase"] == "Succeeded", converted
        assert converted["status"]["steps"]["convert"]["report"]["passed"]
        logs = http.get(f"{BASE}/namespaces/default/pods/slims/logs").json()["logs"]
        assert any("converted ONNX to ONNX" in line["content"] for line in logs)
    run_id = converted["status"]["flowRunID"]
    api = f"{system.prefect_url}/api"

    def completed() -> bool:
        return httpx.get(f"{api}/flow_runs/{run_id}").json()["state"]["type"] == "COMPLETED"

    wait_until(completed, timeout_s=20, what="the flow run to be Completed")

    def names() -> set[str]:
        asked = {"flow_runs": {"id": {"any_": [run_id]}}}
        found = httpx.post(f"{api}/task_runs/filter", json=asked).json()
        return {task["name"] for task in found if task["state"]["type"] == "COMPLETED"}

    steps = {"pull the model of slims", "convert slims", "verify slims", "extract slims"}
    wait_until(lambda: names() >= steps, timeout_s=20, what="the task runs")
    shown = httpx.post(f"{api}/artifacts/filter", json={}).json()
    keys = {each["key"] for each in shown if (each["key"] or "").startswith("modeljob-default-slims")}
    wanted = {f"modeljob-default-slims-{what}" for what in ("signature", "operators", "equivalence")}
    assert keys == wanted


def _ended(http: httpx.Client, name: str) -> dict:
    def ended() -> dict:
        found = http.get(f"{BASE}/namespaces/default/modeljobs/{name}").json()
        return found if found["status"]["phase"] in ("Succeeded", "Failed") else {}

    return wait_until(ended, timeout_s=90, what=f"ModelJob {name} to end")


def test_a_model_job_that_is_cancelled_in_prefect_ends_as_stopped(system, tmp_path):
    """Its conversion has a hundred megabytes to work on, so that the cancel comes in the middle of it."""
    with system.http() as http:
        made = {"name": "cancelled", "version": "v1", "runtime": "onnx", "file_name": "m.onnx"}
        model = http.post("/api/v1/namespaces/default/models", json=made).json()
        data = small_onnx(tmp_path / "m.onnx", 5000, 5000).read_bytes()
        http.put("/api/v1/models/content", params={"model_id": model["id"]}, content=data)
        pair = {"mmdnn": {"from": "ONNX", "to": "ONNX"}, "options": {"operation": "opset", "opset": 18}}
        spec = {"model": "default/cancelled:v1", "desiredTag": "default/cancelled:v2", "conversion": pair}
        http.post(f"{BASE}/namespaces/default/modeljobs", json={"metadata": {"name": "stops"}, "spec": spec})
        path = f"{BASE}/namespaces/default/modeljobs/stops"

        def pulled() -> str:
            status = http.get(path).json()["status"]
            return status["flowRunID"] if "pull" in status.get("steps", {}) else ""

        run_id = wait_until(pulled, timeout_s=30, what="the pull")
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        httpx.post(f"{system.prefect_url}/api/flow_runs/{run_id}/set_state", json=state)
        asked = time.monotonic()
        ended = _ended(http, "stops")["status"]
        assert (ended["phase"], ended["message"]) == ("Failed", "stopped")
        assert time.monotonic() - asked < 15
        assert http.get("/api/v1/namespaces/default/models/cancelled?version=v2").status_code == 404
        assert http.delete(path).status_code == 204
        wait_until(lambda: http.get(path).status_code == 404, timeout_s=20, what="the deletion")
