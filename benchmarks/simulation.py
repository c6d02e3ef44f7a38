"""Seconds per round of a simulated job of many clients, beside the bare work of its clients in one process.

    python benchmarks/simulation.py [--clients 1000] [--rounds 10] [--json]

The job trains nothing: a model of 10 KB, so that what is measured is what a client and a round cost.
The floor loads, writes and adds up as many updates in one plain loop.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from catchment.models.tensors import read_tensors, write_tensors

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import catchment.sdk as fl, torch
model = torch.nn.Linear(50, 50)
fl.load_weights(model)
if fl.task().kind == "train":
    fl.commit_weights(model)
fl.commit_metrics({"sample_num": 10, "accuracy": 0.5, "loss": 1.0})
"""
WARM_UP_ROUNDS = 2


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        for metric, value, floor, unit in measure(options, Path(folder)):
            line = {"workload": "simulation", "metric": metric, "value": value, "floor": floor, "unit": unit}
            print(json.dumps(line) if options.json else _row(line), flush=True)


def _row(line: dict[str, object]) -> str:
    floor = "" if line["floor"] is None else f"   floor {line['floor']:9.3f}"
    return f"{line['workload']:11} {line['metric']:34} {line['value']:9.3f} {line['unit']:3}{floor}"


def measure(options: argparse.Namespace, folder: Path) -> list[tuple[str, float, float | None, str]]:
    """The simulation as its command runs it, and the floor."""
    write_job(options, folder)
    begun, used = time.monotonic(), os.times()
    command = [sys.executable, "-m", "catchment.cli", "simulate", str(folder / "job.json")]
    run = subprocess.run(
        [*command, "--clients", str(options.clients), "--home", str(folder / "home")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    whole_s = time.monotonic() - begun
    now = os.times()
    cpu_s = (now.children_user + now.children_system) - (used.children_user + used.children_system)
    reports = [json.loads(line) for line in run.stdout.splitlines()]
    seconds = [report["seconds"] for report in reports if "seconds" in report]
    return [
        (
            f"seconds per round, {options.clients} clients",
            statistics.median(seconds[WARM_UP_ROUNDS:]),
            floor(options, folder),
            "s",
        ),
        ("whole command, start to end", round(whole_s, 3), None, "s"),
        ("CPU of the whole command per round", round(cpu_s / options.rounds, 3), None, "s"),
    ]


def write_job(options: argparse.Namespace, folder: Path) -> None:
    """The job's files."""
    (folder / "scripts").mkdir()
    (folder / "scripts" / "train.py").write_text(SCRIPT)
    parts = {"train": {"entry": "train.py"}, "evaluate": {"entry": "train.py"}}
    (folder / "scripts" / "entry.json").write_text(json.dumps(parts))
    weights = {"weight": np.zeros((50, 50), np.float32), "bias": np.zeros(50, np.float32)}
    write_tensors(folder / "init.safetensors", weights)
    hyper = {
        "max_round_num": options.rounds,
        "client_num": options.clients,
        "threshold_client_num": options.clients,
        "evaluate_interval": options.rounds + 1,
        "save_interval": options.rounds + 1,
    }
    job = {
        "id": "simulation",
        "runtime": "pytorch",
        "output": "out",
        "model_path": "init.safetensors",
        "scripts": {"path": "scripts", "config_file": "entry.json"},
        "seed": 1,
        "hyper_parameters": hyper,
    }
    (folder / "job.json").write_text(json.dumps(job))


def floor(options: argparse.Namespace, folder: Path) -> float:
    """Seconds to load the weights, write an update and add it up, once for each client, in one process."""
    path = folder / "floor.safetensors"
    begun = time.perf_counter()
    sums = {
        name: np.zeros_like(array, np.float64)
        for name, array in read_tensors(folder / "init.safetensors").items()
    }
    for _ in range(options.clients):
        weights = read_tensors(folder / "init.safetensors")
        write_tensors(path, weights)
        for name, array in weights.items():
            sums[name] += array
    return round(time.perf_counter() - begun, 4)


if __name__ == "__main__":
    main()
