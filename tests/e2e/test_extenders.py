"""A job with all three extenders through the whole system, and one whose extender hangs until a stop."""

from __future__ import annotations

import httpx
import numpy as np

from catchment.models.tensors import read_tensors
from tests.conftest import wait_until
from tests.e2e.conftest import CONFIG, processes_with

TRAIN = '''
"""Adds what the coordinator's table says for this site, and hands over a file and a parameter."""
import sys
import catchment.sdk as fl
import torch

steps = [float(step) for step in fl.get_file("steps.txt").split()]
number = int(fl.get_dataset_path("digits").split("site-")[1].split("/")[0])
step = steps[number - 1] * fl.get_parameter("factor")
model = torch.nn.Linear(2, 1)
fl.load_weights(model)
if fl.task().kind == "evaluate":
    fl.commit_metrics({"sample_num": 5, "accuracy": fl.get_parameters()["factor"] / 10})
    sys.exit(0)
with torch.no_grad():
    for parameter in model.parameters():
        parameter += step
fl.put_file("step.txt", str(step))
fl.put_parameter("number", number)
fl.commit_weights(model)
fl.commit_metrics({"sample_num": 10 ** number})
'''

FUNCTIONS = '''
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def prepare(parameters):
    Path("steps.txt").write_text("1 5")
    return {"steps.txt": "steps.txt"}, {"factor": parameters["--factor"]}


def median(update, previous):
    """The median of the sites' weights, whatever their numbers of samples."""
    state = previous or {"deltas": [], "told": {}}
    state["deltas"].append(update["weights"])
    handed_over = (Path(update["custom_files"]) / "step.txt").read_text()
    state["told"][update["client_id"]] = [handed_over, update["custom_params"]["number"]]
    state["weights"] = {
        name: array + np.median([delta[name] for delta in state["deltas"]], axis=0).astype(array.dtype)
        for name, array in update["global_weights"].items()
    }
    return state


def report(result):
    lines = [f"{name} {step} {number}" for name, (step, number) in result["aggregated"]["told"].items()]
    (Path(result["output"]) / "report.txt").write_text("\\n".join([f"round {result['round']}", *lines]))
    np.save(Path(result["output"]) / "weight.npy", result["weights"]["weight"])


def linger_once(update, previous):
    """Hangs, with a process of its own beside it, in the first call of all; from then on the median."""
    if not Path(LINGERED).exists():
        Path(LINGERED).touch()
        line = [sys.executable, "-c", "import time; time.sleep(600)", "catchment-test-linger"]
        subprocess.run(line, start_new_session=True)
    return median(update, previous)


def hang(update, previous):
    Path(os.path.dirname(__file__), "pid").write_text(str(os.getpid()))
    time.sleep(600)
'''


def write_files(system) -> None:
    folder = system.home / "namespaces" / "default" / "extended"
    (folder / "scripts").mkdir(parents=True, exist_ok=True)
    (folder / "scripts" / "train.py").write_text(TRAIN)
    (folder / "scripts" / "config.json").write_text(CONFIG)
    lingered = system.fault_folder / "lingered"
    (folder / "functions.py").write_text(f"LINGERED = {str(lingered)!r}\n{FUNCTIONS}")


def extended_job(**extenders: str) -> dict:
    return {
        "scripts": {"path": "extended/scripts", "config_file": "config.json"},
        "parameters": {"--factor": 2},
        "extenders": {"script_path": "extended", "entry": "functions.py", **extenders},
    }


def test_files_and_parameters_go_round_and_aggregate_replaces_the_aggregation(system):
    write_files(system)
    extenders = {"broadcast": "prepare", "aggregate": "median", "finish": "report"}
    job_id = system.start(id="extended", **extended_job(**extenders))
    shown = system.wait_for(job_id)
    assert shown["status"] == {"state": "FINISHED", "reason": "", "progress": 100}
    checkpoint = shown["checkpoints"]["checkpoint_v1"]
    assert checkpoint["accuracy"] == 0.2
    folder = system.home / "namespaces" / "default"
    # The median of 1 * 2 and 5 * 2 in each of three rounds; the mean by samples would be 9.27 a round.
    assert read_tensors(folder / checkpoint["path"])["weight"].tolist() == [[18.0, 18.0]]
    for number in (1, 2, 3):
        output = folder / f"small/output/extended_V1/extender/round_{number}"
        told = (output / "report.txt").read_text().splitlines()
        assert told == [f"round {number}", "site-1 2.0 1", "site-2 10.0 2"]
        assert np.load(output / "weight.npy").tolist() == [[6.0 * number] * 2]
    reports = system.rounds(job_id)
    assert [report["state"] for report in reports] == ["committed"] * 3
    assert all("extenders.aggregate made the new weights" in report["rule"] for report in reports)
    run = httpx.get(f"{system.prefect_url}/api/flow_runs/{shown['flow_run_id']}").json()
    names = {task["name"] for task in _task_runs(system, run["id"])}
    assert {"broadcast to evaluate in round 2", "finish function of round 2"} <= names


def _task_runs(system, flow_run_id: str) -> list[dict]:
    api = f"{system.prefect_url}/api"
    rounds = httpx.post(
        f"{api}/flow_runs/filter", json={"flow_runs": {"parent_flow_run_id": {"any_": [flow_run_id]}}}
    ).json()
    ids = [found["id"] for found in rounds]
    wanted = "finish function of round 2"

    def found() -> list[dict]:
        tasks = httpx.post(f"{api}/task_runs/filter", json={"flow_runs": {"id": {"any_": ids}}}).json()
        return tasks if any(task["name"] == wanted for task in tasks) else []

    return list(wait_until(found, timeout_s=20, what="the task runs"))


def test_a_stop_ends_a_hanging_extender(system, timed):
    write_files(system)
    job_id = system.start(id="hanging-extender", **extended_job(broadcast="prepare", aggregate="hang"))
    wait_until(
        lambda: any(report["phases"]["collect"] for report in system.rounds(job_id)),
        timeout_s=40,
        what="the updates",
    )
    wait_until(lambda: processes_with("extenders/child.py"), timeout_s=40, what="the aggregating process")
    began = timed()
    with system.http() as http:
        assert http.put(f"{system.job_path(job_id)}:stop").status_code == 200
    system.wait_for(job_id, "STOPPED", timeout_s=20)
    assert timed() - began < 15
    wait_until(lambda: not processes_with("extenders/child.py"), timeout_s=10, what="the end of the process")
    with system.http() as http:
        assert http.delete(system.job_path(job_id)).status_code == 200
