"""The whole life of a job by a plain HTTP client, and its runs as the Prefect UI sees them."""

from __future__ import annotations

import httpx

from catchment.models.tensors import read_tensors
from tests.conftest import wait_until
from tests.e2e.conftest import small_job

JOBS = "/api/v1/namespaces/default/jobs"


def test_a_job_lives_from_creation_to_deletion(system):
    with system.http() as http:
        assert http.get("/api/v1/health").json() == "OK"
        assert http.post(JOBS, json=small_job(id="life")).status_code == 201
        assert http.post(JOBS, json=small_job(id="life")).status_code == 403
        shown = http.get(f"{JOBS}/life").json()
        assert shown["status"] == {"state": "QUEUED", "reason": "", "progress": 0}
        assert shown["redundancy"] == 1.0
        changed = {**shown, "description": "changed"}
        assert http.put(f"{JOBS}/life", json=changed).json() == {"state": "SUCCESSFUL"}
        for _ in range(2):
            assert http.put(f"{JOBS}/life:start").json() == {"state": "SUCCESSFUL"}
        refused = http.put(f"{JOBS}/life", json=changed)
        assert refused.status_code == 403
        assert refused.json()["state"] == "FAILED"
        finished = system.wait_for("life")
        assert finished["status"] == {"state": "FINISHED", "reason": "", "progress": 100}
        assert finished["description"] == "changed"
        checkpoint = finished["checkpoints"]["checkpoint_v1"]
        assert checkpoint["accuracy"] == 0.5
        path = system.home / "namespaces" / "default" / checkpoint["path"]
        assert read_tensors(path)["weight"].tolist() == [[3.0, 3.0]]
        assert "life" in [job["id"] for job in http.get(JOBS).json()["jobs"]]
        assert http.delete(f"{JOBS}/life").json() == {"state": "SUCCESSFUL"}
        wait_until(lambda: http.get(f"{JOBS}/life").status_code == 404, timeout_s=20, what="the deletion")
        assert not path.exists()
        assert http.delete(f"{JOBS}/life").status_code == 200


def test_the_prefect_ui_shows_the_run_its_rounds_and_tasks(system):
    job_id = system.start(id="seen")
    shown = system.wait_for(job_id)
    assert shown["status"]["state"] == "FINISHED"
    api = f"{system.prefect_url}/api"

    def completed() -> dict:
        run = httpx.get(f"{api}/flow_runs/{shown['flow_run_id']}").json()
        return run if run["state"]["type"] == "COMPLETED" else {}

    run = wait_until(completed, timeout_s=20, what="the flow run to be Completed")
    assert run["name"] == "seen"
    children = httpx.post(
        f"{api}/flow_runs/filter",
        json={"flow_runs": {"parent_flow_run_id": {"any_": [run["id"]]}}, "sort": "NAME_ASC"},
    ).json()
    assert [child["name"] for child in children] == [f"seen round {number}" for number in (1, 2, 3)]

    def names() -> set[str]:
        found = httpx.post(
            f"{api}/task_runs/filter",
            json={"flow_runs": {"id": {"any_": [children[2]["id"]]}}},
        ).json()
        return {task["name"] for task in found if task["state"]["type"] == "COMPLETED"}

    wanted = {
        f"{step} round 3"
        for step in (
            "select cohort of",
            "publish work of",
            "collect updates of",
            "aggregate and commit",
            "evaluate",
            "save checkpoint of",
        )
    }
    wait_until(lambda: names() >= wanted, timeout_s=20, what="the round's task runs")
    artifacts = httpx.post(
        f"{api}/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    ).json()
    assert {"job-default-seen", "result-default-seen"} <= {artifact["key"] for artifact in artifacts}


def test_after_finished_a_start_begins_anew_in_a_folder_of_its_own(system):
    job_id = system.start(id="again", hyper_parameters={"max_round_num": 1})
    system.wait_for(job_id)
    with system.http() as http:
        assert http.put(f"{JOBS}/again:start").status_code == 200
    shown = system.wait_for(job_id, "RUNNING", "FINISHED")
    shown = system.wait_for(job_id, "FINISHED")
    assert shown["run"] == 2
    assert shown["checkpoints"]["checkpoint_v2"]["path"].startswith("small/output/again_V2/")
