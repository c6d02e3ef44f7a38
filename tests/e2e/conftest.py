"""The whole system as a user starts it, once for all tests here; jobs over plain HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from catchment.faults import FOLDER_VARIABLE
from catchment.models.tensors import write_tensors
from tests.conftest import ROOT, users_environment, wait_until
from tests.model_files.environments import environments_folder

LEASE_S = 5.0
ENDED = {"FINISHED", "FAILED", "STOPPED"}

SCRIPT = '''
"""A training whose behaviour its parameters choose, for each site alone if they say so."""
import argparse, os, pathlib, subprocess, sys, time
import numpy as np
import catchment.sdk as fl

parser = argparse.ArgumentParser()
parser.add_argument("--mode", default="train")
parser.add_argument("--only", default="")
parser.add_argument("--round", type=int, default=0)
options, _ = parser.parse_known_args()
here = fl.get_dataset_path("digits")
chosen = options.only in here and options.round in (0, fl.task().round)
mode = options.mode if chosen else "train"
if mode == "exit":
    sys.exit("the disk is on fire")
if mode == "hang" or (mode == "hang-training" and fl.task().kind == "train"):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "catchment-test-hang"])
    pathlib.Path(os.environ["TMPDIR"], "hanging").write_text("yes")
    time.sleep(600)
if mode == "shout":
    for _ in range(100):
        print("x" * 1_000_000)
if mode == "brisk" and fl.task().kind == "train":
    time.sleep(0.2)
if mode == "slow" and fl.task().kind == "train":
    time.sleep(1.5)
model = __import__("torch").nn.Linear(2, 1)
fl.load_weights(model)
if fl.task().kind == "evaluate":
    fl.commit_metrics({"sample_num": 5, "accuracy": 0.5, "loss": 1.0})
    sys.exit(0)
with __import__("torch").no_grad():
    for parameter in model.parameters():
        parameter += 1
fl.commit_weights(model)
fl.commit_metrics({"sample_num": 0 if mode == "empty" else 10, "loss": 0.1})
'''
CONFIG = (
    '{"train": {"command": "python3", "entry": "train.py", "timeout": 2},'
    ' "evaluate": {"command": "python3", "entry": "train.py", "timeout": 2}}'
)


@dataclass
class System:
    """A running `catchment up`, and sites that tests start beside it."""

    home: Path
    url: str
    prefect_url: str
    pid: int
    fault_folder: Path
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def http(self) -> httpx.Client:
        """A plain client of the API."""
        return httpx.Client(base_url=self.url, timeout=30)

    def job_path(self, job_id: str) -> str:
        """Path of a job in the namespace `default`."""
        return f"/api/v1/namespaces/default/jobs/{job_id}"

    def start(self, **changes: Any) -> str:
        """Create and start a small job; its id."""
        body = small_job(**changes)
        answer = self.patiently("POST", "/api/v1/namespaces/default/jobs?start=true", json=body)
        assert answer.status_code == 201, answer.text
        return str(body["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as GET shows it."""
        answer = self.patiently("GET", self.job_path(job_id))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def rounds(self, job_id: str) -> list[dict[str, Any]]:
        """Reports of its rounds."""
        return list(self.patiently("GET", f"{self.job_path(job_id)}/rounds").json()["rounds"])

    def patiently(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request that outlives a restart of the API."""
        found: list[httpx.Response] = []

        def answered() -> bool:
            try:
                found.append(httpx.request(method, self.url + path, timeout=30, **options))
            except httpx.TransportError:
                return False
            return found[-1].status_code != 500

        wait_until(answered, timeout_s=40, what=f"an answer to {method} {path}")
        return found[-1]

    def wait_for(self, job_id: str, *states: str, timeout_s: float = 60) -> dict[str, Any]:
        """The job once it is in one of the states (default: any in which it rests)."""
        wanted = set(states) or ENDED
        shown: dict[str, Any] = {}

        def reached() -> bool:
            shown.update(self.job(job_id))
            return shown["status"]["state"] in wanted

        wait_until(reached, timeout_s=timeout_s, what=f"{job_id} to be {wanted}; it is {shown.get('status')}")
        return shown

    def add_site(self, name: str, *, parallelism: int = 2) -> subprocess.Popen[bytes]:
        """A site of its own, which nobody restarts, with the data of site-1."""
        folder = self.home / "more" / name
        known = json.loads((self.home / "sites" / "site-1" / "datasets.json").read_text())
        shutil.copytree(self.home / "sites" / "site-1" / known["digits"], folder / "digits")
        (folder / "datasets.json").write_text('{"digits": "digits"}')
        with (folder / "site.log").open("wb") as log:
            site = subprocess.Popen(
                [
                    *(sys.executable, "-m", "catchment.cli", "site", "start", "--name", name),
                    *("--server", self.url, "--home", str(folder / "home")),
                    *("--datasets", str(folder / "datasets.json"), "--allow-scripts", "always"),
                    *("--max-task-parallelism", str(parallelism), "--cpu", "4", "--memory-mb", "4000"),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.others.append(site)
        wait_until(lambda: self.is_online(name), timeout_s=30, what=f"site {name}")
        return site

    def is_online(self, name: str) -> bool:
        """Whether the API shows the site as connected."""
        sites = httpx.get(f"{self.url}/api/v1/sites", timeout=30).json()["sites"]
        return any(site["name"] == name and site["online"] for site in sites)


def small_job(**changes: Any) -> dict[str, Any]:
    """A job of the two local sites whose model has three weights."""
    hyper = {
        "max_round_num": 3,
        "client_num": 2,
        "threshold_client_num": 2,
        "evaluate_interval": 1,
        "round_timeout": 60,
        **changes.pop("hyper_parameters", {}),
    }
    return {
        "id": "small",
        "runtime": "pytorch",
        "model_path": "small/initial.safetensors",
        "scripts": {"path": "small/scripts", "config_file": "config.json"},
        "datasets": "digits",
        "output": "small/output",
        "clients": "site-1,site-2",
        "seed": 3,
        "hyper_parameters": hyper,
        **changes,
    }


def end_group(process: subprocess.Popen[bytes], number: int = signal.SIGTERM, timeout_s: float = 20) -> int:
    """End a process and its group by id; its exit code."""
    if process.poll() is None:
        os.killpg(process.pid, number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
    return int(process.returncode)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`catchment up` with two sites and short leases."""
    home = tmp_path_factory.mktemp("up") / "home"
    faults = home.with_name("faults")
    faults.mkdir()
    environment = users_environment(
        **{FOLDER_VARIABLE: str(faults)},
        CATCHMENT_SITE_LEASE_S=str(LEASE_S),
        CATCHMENT_JOB_LEASE_S="3",
        CATCHMENT_SUPERVISE_S="0.5",
        CATCHMENT_COHORT_WAIT_S="40",
        CATCHMENT_ENVIRONMENTS_DIR=str(environments_folder()),
    )
    log = home.with_name("up.log").open("wb")
    up = subprocess.Popen(
        [
            *(sys.executable, "-m", "catchment.cli", "up", "--home", str(home)),
            *("--api-port", "0", "--prefect-port", "0", "--sites", "2"),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    assert up.stdout is not None
    running: System | None = None
    try:
        line = up.stdout.readline().decode()
        assert line.startswith("ready http://"), home.with_name("up.log").read_text()
        told = home.with_name("up.log").read_text()
        prefect_url = told.split("Prefect UI: ")[1].split()[0]
        running = System(home, line.split()[1], prefect_url, up.pid, faults)
        _make_small_job_files(home / "namespaces" / "default" / "small")
        yield running
    finally:
        for site in running.others if running else ():
            end_group(site)
        code = end_group(up, timeout_s=30)
        up.stdout.close()
        log.close()
    assert code == 0


def _make_small_job_files(folder: Path) -> None:
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "train.py").write_text(SCRIPT)
    (folder / "scripts" / "config.json").write_text(CONFIG)
    weights = {"weight": np.zeros((1, 2), np.float32), "bias": np.zeros(1, np.float32)}
    write_tensors(folder / "initial.safetensors", weights)


def processes_with(text: str, *, below: int | None = None) -> list[int]:
    """Ids of processes whose command line holds `text`; with `below` only descendants of that process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command and (below is None or below in ancestors(int(entry.name))):
                found.append(int(entry.name))
    return found


def ancestors(pid: int) -> list[int]:
    """The ids of a process's parent, its parent, and so on; empty when it is gone."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            break
        found.append(pid)
    return found


def flow_runs(system: System) -> list[int]:
    """Ids of the processes of flow runs: runner -> the process that has everything imported -> flow runs."""
    runners = processes_with("flows.runner", below=system.pid)
    (runner,) = [pid for pid in runners if not set(ancestors(pid)) & set(runners)]
    return [pid for pid in runners if ancestors(pid)[1:2] == [runner]]


@pytest.fixture
def timed() -> Callable[[], float]:
    """Seconds since the fixture was made."""
    start = time.monotonic()
    return lambda: time.monotonic() - start
