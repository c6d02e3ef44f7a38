"""A job with a real training script, small enough for simulated clients by the hundred."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.models.tensors import write_tensors

SCRIPT = """
import random
import catchment.sdk as fl, torch

model = torch.nn.Linear(3, 2)
fl.load_weights(model)
if fl.task().kind == "train":
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.rand(parameter.shape) + random.random()
    fl.commit_weights(model)
fl.commit_metrics({"sample_num": 1 + fl.seed() % 5, "accuracy": 0.5, "loss": 1.0})
"""


@pytest.fixture
def job_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes job.json with its script and its weights; the folder."""

    def write(script: str = SCRIPT, **changes: Any) -> Path:
        folder = tmp_path / "job"
        (folder / "scripts").mkdir(parents=True, exist_ok=True)
        (folder / "scripts" / "train.py").write_text(script)
        parts = {"train": {"entry": "train.py"}, "evaluate": {"entry": "train.py"}}
        (folder / "scripts" / "entry.json").write_text(json.dumps(parts))
        weights = {"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
        write_tensors(folder / "init.safetensors", weights)
        hyper = {"max_round_num": 2, "client_num": 20, "threshold_client_num": 15, "evaluate_interval": 2}
        job = {
            "id": "simulated",
            "runtime": "pytorch",
            "output": "out",
            "model_path": "init.safetensors",
            "scripts": {"path": "scripts", "config_file": "entry.json"},
            "seed": 11,
            **changes,
            "hyper_parameters": {**hyper, **changes.get("hyper_parameters", {})},
        }
        (folder / "job.json").write_text(json.dumps(job))
        return folder

    return write
