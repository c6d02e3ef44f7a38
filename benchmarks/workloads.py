"""What is measured: each workload's job, and a plain loop in one process that does the same."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from system import ROOT

from catchment.models.tensors import write_tensors
from catchment.stack.digits import ensure_digits

EXAMPLE = ROOT / "examples" / "digits"
EPOCHS, LEARNING_RATE, BATCH_SIZE = 1, 0.05, 32
WARM_UP_ROUNDS = 2
TITLE = "begins at"

NO_OP = f"""
import time
print("{TITLE}", time.time())
import catchment.sdk as fl, torch
with torch.device("meta"):
    model = torch.nn.Sequential(*[torch.nn.Linear(SIDE, SIDE, bias=False) for _ in range(LAYERS)])
model = model.to_empty(device="cpu")
fl.load_weights(model)
if fl.task().kind == "train":
    fl.commit_weights(model)
fl.commit_metrics({{"sample_num": 10, "accuracy": 0.5, "loss": 1.0}})
"""


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
        rounds: how many rounds are measured when nobody asks for another number.
        side, layers: the model is so many square matrices of float32; 0: the example's network.
        floor: seconds per round of a plain loop.
    """

    name: str
    rounds: int
    side: int
    layers: int
    floor: Callable[[Workload, int, int, Path], float]

    @property
    def model_bytes(self) -> int:
        """Size of the model's tensors."""
        return 4 * self.side**2 * self.layers

    def prepare(self, namespace: Path, sites: int, rounds: int) -> dict[str, Any]:
        """Put model and scripts where the job finds them; the job's body."""
        scripts = namespace / "bench" / "scripts"
        scripts.mkdir(parents=True)
        if self.side:
            write_tensors(namespace / "bench" / "initial.safetensors", self.weights())
            text = NO_OP.replace("SIDE", str(self.side)).replace("LAYERS", str(self.layers))
            (scripts / "no_op.py").write_text(text)
            train = evaluate = "no_op.py"
        else:
            from make_initial import make_initial

            make_initial(namespace / "bench" / "initial.safetensors")
            for name in ("train.py", "evaluate.py", "model.py"):
                (scripts / name).write_text((EXAMPLE / name).read_text())
            train, evaluate = "train.py", "evaluate.py"
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
            "parameters": {} if self.side else parameters,
            "resource": {"memory": 1000},
            "hyper_parameters": {
                "max_round_num": rounds,
                "client_num": sites,
                "threshold_client_num": sites,
                "evaluate_interval": rounds,
                "save_interval": rounds,
            },
        }

    def weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """The model's initial weights."""
        return {f"{n}.weight": np.zeros((self.side, self.side), np.float32) for n in range(self.layers)}


def floor_average(workload: Workload, sites: int, rounds: int, _folder: Path) -> float:
    """A plain loop that copies each site's weights and averages them in float64."""
    weights = workload.weights()
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        sums = {name: np.zeros(tensor.shape, np.float64) for name, tensor in weights.items()}
        for _ in range(sites):
            for name, tensor in weights.items():
                sums[name] += tensor.copy()
        weights = {name: (total / sites).astype(np.float32) for name, total in sums.items()}
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def floor_digits(_workload: Workload, sites: int, rounds: int, folder: Path) -> float:
    """A plain loop with the example's model, data and training, and the same average."""
    import torch
    from model import build_model
    from train import train

    torch.set_num_threads(2)
    folders = [folder / "floor" / f"site-{index}" for index in range(sites)]
    ensure_digits(folders)
    parts = []
    for part in folders:
        with np.load(next(part.rglob("train.npz"))) as arrays:
            parts.append((torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])))
    settings = argparse.Namespace(epochs=EPOCHS, lr=LEARNING_RATE, batch_size=BATCH_SIZE)
    weights = {name: tensor.clone() for name, tensor in build_model().state_dict().items()}
    seconds = []
    for _ in range(rounds):
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


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("overhead", 20, 512, 1, floor_average),
        Workload("digits", 20, 0, 0, floor_digits),
        Workload("large", 8, 1250, 16, floor_average),
        Workload("start", 5, 512, 1, floor_average),
    )
}
