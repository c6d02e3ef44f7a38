"""Simulated jobs as users start them: by the command, and by the deployment in a running system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx

from tests.conftest import ROOT, users_environment, wait_until
from tests.e2e.conftest import System, processes_with
from tests.library.simulation.conftest import job_folder  # noqa: F401 - a fixture


def simulate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "catchment.cli", "simulate", str(folder / "job.json"), "--clients", "20"]
    return subprocess.run(
        [*command, "--home", str(folder / "home"), *options],
        cwd=ROOT,
        env=users_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_command_runs_a_job_prints_its_rounds_and_leaves_no_process(job_folder):  # noqa: F811
    folder = job_folder()
    ended = simulate(folder)
    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["round"] for line in told if "round" in line] == [1, 2]
    (saved,) = [line for line in told if "checkpoint" in line]
    assert (folder / "home" / "namespaces" / "default" / saved["path"]).is_file()
    assert processes_with(str(folder)) == []


def test_a_broken_script_fails_the_command_with_the_scripts_words(job_folder):  # noqa: F811
    ended = simulate(job_folder("raise RuntimeError('no such column')\n"), "--sqlite")
    assert ended.returncode == 1
    assert "RuntimeError: no such column" in ended.stderr


def test_the_deployment_simulates_a_job_of_a_running_system(system: System, job_folder):  # noqa: F811
    folder = job_folder(id="simulated-here")
    namespace = system.home / "namespaces" / "default"
    (namespace / "simulated").mkdir(exist_ok=True)
    for file in (*folder.glob("scripts/*.*"), folder / "init.safetensors"):
        (namespace / "simulated" / file.name).write_bytes(file.read_bytes())
    body = json.loads((folder / "job.json").read_text())
    body["scripts"]["path"] = "simulated"
    body["model_path"] = "simulated/init.safetensors"
    with system.http() as http:
        assert http.post("/api/v1/namespaces/default/jobs", json=body).status_code in (200, 201)
    with httpx.Client(base_url=f"{system.prefect_url}/api", timeout=30) as prefect:
        deployment = prefect.get("/deployments/name/simulate/simulate").json()["id"]
        wanted = {"parameters": {"job_id": "simulated-here", "clients": 20}}
        run = prefect.post(f"/deployments/{deployment}/create_flow_run", json=wanted).json()["id"]

        def ended() -> str | None:
            state = prefect.get(f"/flow_runs/{run}").json()["state"]
            return state["name"] if state["type"] in ("COMPLETED", "FAILED", "CRASHED") else None

        assert wait_until(ended, timeout_s=120, what="the simulation") == "Completed"
    assert system.job("simulated-here")["status"]["state"] == "FINISHED"
