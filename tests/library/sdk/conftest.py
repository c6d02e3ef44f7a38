"""A task folder as a site makes it, and scripts that run in it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.models.tensors import write_tensors
from catchment.wire.task import TaskFile
from tests.library.sdk.regression import START, Weights

os.environ.setdefault("KERAS_BACKEND", "torch")


@dataclass
class Task:
    """A task folder, and the means to run a script for it."""

    folder: Path
    environment: dict[str, str]

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = self.folder.parent / "script.py"
        path.write_text(textwrap.dedent(script))
        return subprocess.run(
            [sys.executable, str(path), *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTask:
    """Makes a task folder with the given weights; this process then runs inside the task."""

    def make(weights: Mapping[str, np.ndarray] | None = None, **fields: Any) -> Task:
        folder = tmp_path / "task"
        for name in ("prepared", "result"):
            (folder / name).mkdir(parents=True)
        write_tensors(folder / "weights.safetensors", weights or {"w": np.zeros(2, np.float32)})
        task = TaskFile(
            **{
                "kind": "train",
                "namespace": "default",
                "job_id": "job",
                "run": 1,
                "round": 2,
                "runtime": "pytorch",
                "seed": 11,
                **fields,
            }
        )
        (folder / "task.json").write_text(task.model_dump_json())
        monkeypatch.setenv("CATCHMENT_TASK", str(folder / "task.json"))
        monkeypatch.delenv("RANK", raising=False)
        return Task(folder, dict(os.environ))

    return make


@pytest.fixture
def model(make_task: MakeTask) -> Callable[..., torch.nn.Linear]:
    """Begins a task and loads its weights."""

    def begin(own: Weights | None = None, state: Weights | None = None, **fields: Any) -> torch.nn.Linear:
        task = make_task(START, **fields)
        begin.folder = task.folder  # type: ignore[attr-defined]
        if state is not None:
            write_tensors(task.folder / "state.safetensors", state)
        if own is not None:
            write_tensors(task.folder / "client_state.safetensors", own)
        loaded = torch.nn.Linear(3, 1).double()
        fl.load_weights(loaded)
        return loaded

    return begin
