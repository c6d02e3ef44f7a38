"""Seconds per round of a deployed federated job, beside a plain loop that does the same training.

    python benchmarks/rounds.py --workload digits [--sites 3] [--rounds 20] [--sqlite] [--json]

The floor is one process that trains each site's part in turn, averages and evaluates, with the same
model, data, epochs and batches. Workloads:

    digits    the example job: MLP on the bundled handwritten digits
    overhead  a 1 MB model and no training: what a round costs by itself
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "digits"
sys.path[:0] = [str(EXAMPLE)]

from catchment.client import Client  # noqa: E402
from catchment.models.tensors import write_tensors  # noqa: E402
from catchment.stack.digits import ensure_digits  # noqa: E402

EPOCHS, LEARNING_RATE, BATCH_SIZE = 1, 0.05, 32
WARM_UP_ROUNDS = 2

NO_OP = """
import catchment.sdk as fl, torch
model = torch.nn.Linear(512, 512)
fl.load_weights(model)
if fl.task().kind == "train":
    fl.commit_weights(model)
fl.commit_metrics({"sample_num": 10, "accuracy": 0.5, "loss": 1.0})
"""


@dataclass(frozen=True)
class Line:
    """One measured value beside its floor."""

    workload: str
    metric: str
    value: float
    floor: float | None
    unit: str


def main() -> None:
    """Run one workload and print its lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=("digits", "overhead"), default="digits")
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sqlite", action="store_true", help="SQLite for the store and for Prefect")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        lines = measure(options, Path(folder))
    for line in lines:
        print(json.dumps(vars(line)) if options.json else _row(line), flush=True)


def _row(line: Line) -> str:
    floor = "" if line.floor is None else f"   floor {line.floor:9.3f}   ratio {line.value / line.floor:7.2f}"
    return f"{line.workload:9} {line.metric:34} {line.value:9.3f} {line.unit:3}{floor}"


def measure(options: argparse.Namespace, folder: Path) -> list[Line]:
    """The deployed job and the floor, in one run on one machine."""
    name = f"{options.workload}-sqlite" if options.sqlite else options.workload
    with system(folder / "home", options.sites, sqlite=options.sqlite) as server, Client(server) as client:
        body = prepare_job(options, folder / "home" / "namespaces" / "default")
        begun = time.time()
        client.create_job("default", body, start=True)
        rounds = wait_for_rounds(server, options.rounds)
        cpu_s = tree_cpu_seconds()
    floor_s = floor_digits(options, folder) if options.workload == "digits" else floor_overhead(options)
    committed = [_seconds(report["started_at"]) for report in rounds]
    between = [after - before for before, after in itertools.pairwise(committed)]
    steady = statistics.median(between[WARM_UP_ROUNDS:])
    return [
        Line(name, "seconds per round, median", round(steady, 4), round(floor_s, 4), "s"),
        Line(name, "seconds per round above the floor", round(steady - floor_s, 4), None, "s"),
        Line(name, "start to first work offered", round(committed[0] - begun, 3), None, "s"),
        Line(name, "CPU of the whole system per round", round(cpu_s / options.rounds, 3), None, "s"),
    ]


@contextmanager
def system(home: Path, sites: int, *, sqlite: bool) -> Iterator[str]:
    """`catchment up` on free ports; the API's address."""
    command = [sys.executable, "-m", "catchment.cli", "up", "--home", str(home), "--sites", str(sites)]
    command += ["--api-port", "0", "--prefect-port", "0", *(["--sqlite"] if sqlite else [])]
    up = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert up.stdout is not None
        line = up.stdout.readline()
        if not line.startswith("ready "):
            raise SystemExit("the system did not start")
        yield line.split()[1]
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(30)


def prepare_job(options: argparse.Namespace, namespace: Path) -> dict[str, Any]:
    """Put model and scripts where the job finds them; its body."""
    scripts = namespace / "bench" / "scripts"
    scripts.mkdir(parents=True)
    if options.workload == "digits":
        from make_initial import make_initial

        make_initial(namespace / "bench" / "initial.safetensors")
        for name in ("train.py", "evaluate.py", "model.py"):
            (scripts / name).write_text((EXAMPLE / name).read_text())
        train, evaluate = "train.py", "evaluate.py"
    else:
        weights = {"weight": np.zeros((512, 512), np.float32), "bias": np.zeros(512, np.float32)}
        write_tensors(namespace / "bench" / "initial.safetensors", weights)
        (scripts / "no_op.py").write_text(NO_OP)
        train = evaluate = "no_op.py"
    entry = {"command": "python3", "timeout": 5}
    config = {"train": {**entry, "entry": train}, "evaluate": {**entry, "entry": evaluate}}
    (scripts / "config.json").write_text(json.dumps(config))
    parameters = {"--lr": LEARNING_RATE, "--batch-size": BATCH_SIZE, "--epochs": EPOCHS}
    return {
        "id": "bench",
        "runtime": "pytorch",
        "model_path": "bench/initial.safetensors",
        "scripts": {"path": "bench/scripts", "config_file": "config.json"},
        "datasets": "digits",
        "output": "bench/output",
        "seed": 1,
        "parameters": parameters if options.workload == "digits" else {},
        "resource": {"memory": 1000},
        "hyper_parameters": {
            "max_round_num": options.rounds,
            "client_num": options.sites,
            "threshold_client_num": options.sites,
            "evaluate_interval": options.rounds,
            "save_interval": options.rounds,
        },
    }


def wait_for_rounds(server: str, wanted: int) -> list[dict[str, Any]]:
    """The reports of all rounds once the job has finished."""
    import urllib.request

    def get(path: str) -> Any:
        with urllib.request.urlopen(
            f"{server}/api/v1/namespaces/default/jobs/bench{path}", timeout=30
        ) as answer:
            return json.load(answer)

    deadline = time.monotonic() + 60 + 20 * wanted
    while (status := get("")["status"])["state"] != "FINISHED":
        if status["state"] in ("FAILED", "STOPPED") or time.monotonic() > deadline:
            raise SystemExit(f"the job is {status}")
        time.sleep(0.5)
    return [report for report in get("/rounds")["rounds"] if report["state"] == "committed"]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def tree_cpu_seconds() -> float:
    """CPU seconds of all living descendants of this process, and of what they have waited for."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, family = 0.0, {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= found
        total += sum(used[pid] for pid in found)
    return total


def floor_digits(options: argparse.Namespace, folder: Path) -> float:
    """Seconds per round of a plain loop with the same model, data and training."""
    import torch
    from model import build_model
    from train import train

    torch.set_num_threads(2)
    folders = [folder / "floor" / f"site-{index}" for index in range(options.sites)]
    ensure_digits(folders)
    parts = []
    for part in folders:
        with np.load(next(part.rglob("train.npz"))) as arrays:
            parts.append((torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])))
    settings = argparse.Namespace(epochs=EPOCHS, lr=LEARNING_RATE, batch_size=BATCH_SIZE)
    weights = {name: tensor.clone() for name, tensor in build_model().state_dict().items()}
    seconds = []
    for _ in range(options.rounds):
        begun = time.perf_counter()
        total = sum(len(y) for _, y in parts)
        sums = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in weights.items()}
        for x, y in parts:
            model = build_model()
            model.load_state_dict(weights)
            train(model, x, y, settings)
            for name, tensor in model.state_dict().items():
                sums[name] += len(y) / total * tensor.double()
        weights = {name: tensor.to(weights[name].dtype) for name, tensor in sums.items()}
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[WARM_UP_ROUNDS:])


def floor_overhead(options: argparse.Namespace) -> float:
    """Seconds per round of a plain loop that copies and averages the same tensors."""
    weights = {"weight": np.zeros((512, 512), np.float32), "bias": np.zeros(512, np.float32)}
    seconds = []
    for _ in range(options.rounds):
        begun = time.perf_counter()
        sums = {name: np.zeros(tensor.shape, np.float64) for name, tensor in weights.items()}
        for _ in range(options.sites):
            for name, tensor in weights.items():
                sums[name] += tensor.copy()
        weights = {name: (total / options.sites).astype(np.float32) for name, total in sums.items()}
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
