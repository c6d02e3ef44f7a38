"""One round of a training script on this machine, without a coordinator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from catchment.errors import ScriptFailed, SdkError
from catchment.models.initial import import_weights
from catchment.models.reading import TensorFile
from catchment.models.updates import blocks, check_finite, check_fits
from catchment.strategies.vectors import MARK, algorithm_of, sent_signature
from catchment.wire.messages import Algorithm, Runtime, WorkKind
from catchment.wire.task import METRICS, PREPARED, RESULT, TASK_VARIABLE, UPDATE, WEIGHTS, TaskFile

DEFAULT_TIMEOUT_S = 3 * 3600.0


@dataclass(frozen=True)
class DryRun:
    """What a script is tried with.

    Attributes:
        script: the training script.
        weights: initial model file, of any format that a job's `model_path` may have.
        runtime: the script's framework.
        datasets: data set name -> path.
        evaluate: whether the task evaluates; otherwise it trains.
        arguments: the script's command line, as a job's `parameters` would make it.
        parameters: custom parameters for fl.get_parameter.
        seed: what fl.seed gives.
        timeout_s: the script is ended after so long.
        strategy: the job's, as far as a script has a part in it (FedNova, local tensors).
        optimizer: the job's; the round begins with control variates of zero.
        loss: the job's; likewise.
    """

    script: Path
    weights: Path
    runtime: Runtime
    datasets: Mapping[str, Path] = field(default_factory=dict)
    evaluate: bool = False
    arguments: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    timeout_s: float = DEFAULT_TIMEOUT_S
    strategy: Algorithm | None = None
    optimizer: Algorithm | None = None
    loss: Algorithm | None = None

    @property
    def algorithm(self) -> str | None:
        """The algorithm whose vectors the script sends besides its weights."""
        return algorithm_of(
            *(one.name if one else None for one in (self.strategy, self.optimizer, self.loss))
        )


@dataclass(frozen=True)
class Report:
    """What a script committed.

    Attributes:
        kind: of the task.
        seconds: wall time of the script.
        metrics: as committed.
        num_tensors: in the update; 0 for a task that evaluates.
        num_elements: in the update.
        update_norm: Euclidean norm of all differences in the update.
        largest: name of the tensor with the largest norm.
        files: names of the files handed over with fl.put_file.
        remarks: what works, but may not be meant.
    """

    kind: WorkKind
    seconds: float
    metrics: dict[str, Any]
    num_tensors: int = 0
    num_elements: int = 0
    update_norm: float = 0.0
    largest: str = ""
    files: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def run(wanted: DryRun, keep: Path | None = None) -> Report:
    """Run the script once as a site would, and check what it commits.

    The script writes to this process's stdout and stderr.

    Args:
        wanted: script, weights and data.
        keep: empty or new folder for the task; by default a temporary one that is removed.

    Raises:
        SdkError: the dry run cannot begin as it was asked for.
        BadTensors: the initial weights cannot be read, or the update does not fit or holds NaN.
        ScriptFailed: the script exits with an error, takes too long or commits nothing.
    """
    if keep is not None:
        if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
            raise SdkError(f"{keep} is not an empty folder")
        keep.mkdir(parents=True, exist_ok=True)
        return _run_in(keep.resolve(), wanted)
    with tempfile.TemporaryDirectory(prefix="catchment-dry-run-") as folder:
        return _run_in(Path(folder).resolve(), wanted)


def algorithm(text: str | None) -> Algorithm | None:
    """An algorithm as a command line names it: `fedprox`, or `{"name": "fedprox", "params": {"mu": 0.1}}`.

    None is none.

    Raises:
        SdkError: it is neither.
    """
    if text is None or not text.startswith("{"):
        return None if text is None else Algorithm(name=text)
    try:
        return Algorithm.model_validate_json(text)
    except ValidationError:
        raise SdkError(f"{text!r} is no name, and no JSON object of name and params") from None


def _run_in(folder: Path, wanted: DryRun) -> Report:
    _prepare(folder, wanted)
    started = time.monotonic()
    _run_script(folder, wanted)
    return _report(folder, wanted, time.monotonic() - started)


def _prepare(folder: Path, wanted: DryRun) -> None:
    if not wanted.script.is_file():
        raise SdkError(f"there is no script {wanted.script}")
    for name, path in wanted.datasets.items():
        if not path.exists():
            raise SdkError(f"data set '{name}': there is no {path}")
    if not wanted.weights.is_file():
        raise SdkError(f"there is no model file {wanted.weights}")
    import_weights(wanted.weights, folder / WEIGHTS, wanted.runtime)
    (folder / WEIGHTS).chmod(0o444)
    for name in (PREPARED, RESULT, "tmp"):
        (folder / name).mkdir()
    task = TaskFile(
        kind="evaluate" if wanted.evaluate else "train",
        namespace="default",
        job_id="dry-run",
        run=1,
        round=1,
        runtime=wanted.runtime,
        seed=wanted.seed,
        datasets={name: str(path.resolve()) for name, path in wanted.datasets.items()},
        parameters=dict(wanted.parameters),
        strategy=wanted.strategy,
        optimizer=wanted.optimizer,
        loss=wanted.loss,
        dry_run=True,
    )
    (folder / "task.json").write_text(task.model_dump_json(indent=2), encoding="utf-8")


def _run_script(folder: Path, wanted: DryRun) -> None:
    script = wanted.script.resolve()
    paths = [str(script.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        TASK_VARIABLE: str(folder / "task.json"),
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(folder / "tmp"),
    }
    command = [sys.executable, str(script), *wanted.arguments]
    try:
        ended = subprocess.run(
            command, cwd=script.parent, env=environment, timeout=wanted.timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise ScriptFailed(f"{script.name} was ended after {wanted.timeout_s:g} s") from None
    if ended.returncode != 0:
        raise ScriptFailed(f"{script.name} ended with exit code {ended.returncode}")


def _report(folder: Path, wanted: DryRun, seconds: float) -> Report:
    metrics = _read_object(folder / METRICS)
    if wanted.evaluate:
        if not metrics:
            raise ScriptFailed("the script committed no metrics (fl.commit_metrics)")
        numbers: dict[str, Any] = {}
    else:
        if not (folder / UPDATE).is_file():
            raise ScriptFailed("the script committed no weights (fl.commit_weights)")
        numbers = _update_numbers(folder, wanted)
    return Report(
        kind="evaluate" if wanted.evaluate else "train",
        seconds=seconds,
        metrics=metrics,
        files=tuple(sorted(item.name for item in (folder / RESULT).iterdir())),
        remarks=tuple(_remarks(metrics, wanted, numbers)),
        **numbers,
    )


def _read_object(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return content


def _update_numbers(folder: Path, wanted: DryRun) -> dict[str, Any]:
    strategy = wanted.strategy.params if wanted.strategy else {}
    with TensorFile.open(folder / WEIGHTS) as weights, TensorFile.open(folder / UPDATE) as update:
        check_fits(
            update.signature,
            sent_signature(weights.signature, strategy=strategy, algorithm=wanted.algorithm),
        )
        check_finite(update)
        squares = {
            name: sum(
                float(np.square(update.block(name, start, stop, np.float64)).sum())
                for start, stop in blocks(info.num_elements)
            )
            for name, info in update.signature.items()
            if info.is_float and not name.startswith(MARK)
        }
        return {
            "num_tensors": len(update.signature),
            "num_elements": sum(info.num_elements for info in update.signature.values()),
            "update_norm": sum(squares.values()) ** 0.5,
            "largest": max(squares, key=squares.__getitem__, default=""),
        }


def _remarks(metrics: dict[str, Any], wanted: DryRun, numbers: dict[str, Any]) -> list[str]:
    remarks = []
    if "sample_num" not in metrics:
        remarks.append("no sample_num in the metrics: this site would count as one sample")
    if wanted.evaluate and "accuracy" not in metrics:
        remarks.append("no accuracy in the metrics: checkpoints would show none")
    if not wanted.evaluate and numbers["update_norm"] == 0:
        remarks.append("the update is zero everywhere: did the training change this model?")
    return remarks
