"""What a conversion costs beside the bare call of its converter, and how far its result is from its source.

Each route is run on a small model, in a warm environment: once as a script that only loads and converts in
the same environment, and once through `Converter`, with its confined child, the repairs and the gate. Small
models are the hard case: what is added is the same for large ones.

"conversion" is what the child has used when it is done, samples aside; its end, its keeper and the gate are
in "verification", so that the sum of both is all. The bare script's figure holds its own end. A part of
model_jobs.py.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table import Line

from catchment.formats.convert.backend import BACKENDS
from catchment.formats.convert.conversion import Converter, Request
from catchment.formats.convert.environments import Environments
from catchment.formats.convert.isolation import Isolation
from catchment.formats.convert.running import Bounds, Runner
from catchment.formats.convert.tensor_spec import TensorSpec

MAKERS = Path(__file__).resolve().parent.parent / "tests/library/formats/convert/makers"

_KERAS = """
import keras, onnx, tensorflow as tf
model = keras.saving.load_model(source, compile=False)
call = lambda image: model(image)
"""
_EXPORT = "model.export(target, verbose=False)"
_SAVED_MODEL = """
import runpy
sys.argv = ["tf2onnx", "--saved-model", source, "--output", target, "--opset", "17"]
runpy.run_module("tf2onnx.convert", run_name="__main__")
"""
_TF2ONNX = """
import tf2onnx
takes = [tf.TensorSpec((None, 8, 8, 3), "float32", name="image")]
function = tf.function(call, autograph=False)
made, _ = tf2onnx.convert.from_function(function, input_signature=takes, opset=17)
onnx.save(made, target)
"""
_SCRIPT = """
import torch
free = {"image": {0: "batch"}}
script, example = torch.jit.load(source), (torch.zeros(2, 3, 8, 8),)
torch.onnx.export(script, example, target, dynamo=False, input_names=["image"], dynamic_axes=free)
"""
_EXPORTED = "import torch; torch.onnx.export(torch.export.load(source), dynamo=True).save(target)"
_STATE = """
import torch
from safetensors.torch import save_file
save_file({name: each.contiguous() for name, each in torch.load(source, weights_only=True).items()}, target)
"""
_FOREST = """
import onnx, skops.io
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
model = skops.io.load(source, trusted=["sklearn.tree._tree.Tree"])
takes = [("input", FloatTensorType([None, 6]))]
onnx.save(to_onnx(model, initial_types=takes, options={"zipmap": False}), target)
"""
_ROWS = """
import onnx
from onnxmltools.convert.common.data_types import FloatTensorType
takes = [("input", FloatTensorType([None, 6]))]
"""
_XGBOOST = """
import xgboost
from onnxmltools import convert_xgboost
onnx.save(convert_xgboost(xgboost.Booster(model_file=source), initial_types=takes), target)
"""
_LIGHTGBM = """
import lightgbm
from onnxmltools import convert_lightgbm
onnx.save(convert_lightgbm(lightgbm.Booster(model_file=source), initial_types=takes, zipmap=False), target)
"""


@dataclass(frozen=True)
class Case:
    """One route on one model; `bare` is the converter's call as a person would write it."""

    backend: str
    model: str
    file: str
    source: str
    target: str
    bare: str
    inputs: tuple[TensorSpec, ...] = ()


IMAGE = (TensorSpec("image", "float32", (None, 3, 8, 8)),)
CASES = (
    Case("tensorflow", "h5", "model.h5", "H5", "SavedModel", _KERAS + _EXPORT),
    Case("tensorflow", "h5", "model.h5", "H5", "ONNX", _KERAS + _TF2ONNX),
    Case("tensorflow", "keras", "model.keras", "Keras", "ONNX", _KERAS + _TF2ONNX),
    Case("tensorflow", "saved_model", ".", "SavedModel", "ONNX", _SAVED_MODEL),
    Case("torch", "script", "model.pt", "TorchScript", "ONNX", _SCRIPT, IMAGE),
    Case("torch", "exported", "model.pt2", "ExportedProgram", "ONNX", _EXPORTED),
    Case("torch", "state", "model.pth", "StateDict", "Safetensors", _STATE),
    Case("sklearn", "forest", "model.skops", "SKLearn", "ONNX", _FOREST),
    Case("sklearn", "xgboost_classes", "model.ubj", "XGBoost", "ONNX", _ROWS + _XGBOOST),
    Case("sklearn", "lightgbm_classes", "model.txt", "LightGBM", "ONNX", _ROWS + _LIGHTGBM),
)


def lines(cache: Path, repeats: int, only: str | None) -> Iterator[Line]:
    """All routes, or the one of that name, such as "H5 -> ONNX".

    Args:
        cache: folder of the environments.
        repeats: runs of each; medians are shown.
        only: name of a route.
    """
    chosen = [case for case in CASES if only in (None, f"{case.source} -> {case.target}")]
    with tempfile.TemporaryDirectory() as name:
        for each in _measure_all(Path(name), Environments(cache), repeats, chosen):
            yield from _lines(each)


def _lines(found: dict[str, Any]) -> list[Line]:
    route = found["route"]
    return [
        Line("convert", f"{route}, conversion", found["conversion_cpu_s"], found["bare_cpu_s"], "cpu s"),
        Line("convert", f"{route}, verification", found["verification_cpu_s"], None, "cpu s"),
        Line("convert", f"{route}, all of it", found["total_wall_s"], found["bare_wall_s"], "wall s"),
        Line("convert", f"{route}, error in 1e-9", 1e9 * found["max_abs_error"], None, "at most"),
    ]


def _measure_all(
    folder: Path, environments: Environments, repeats: int, cases: Sequence[Case]
) -> Iterator[dict[str, Any]]:
    for backend in sorted({case.backend for case in cases}):
        python = environments.get(BACKENDS[backend]).python
        command = [python, "-I", MAKERS / f"{backend}_models.py", folder / backend, folder / "canary", "1"]
        subprocess.run(command, check=True, capture_output=True, env=_environment())
    converter = Converter(environments, Runner(Bounds(), Isolation.tried_out(folder)))
    for case in cases:
        python = environments.get(BACKENDS[case.backend]).python
        runs = [_measure(case, converter, python, folder, index) for index in range(repeats)]
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        yield {"route": f"{case.source} -> {case.target}", **middle}


def _measure(case: Case, converter: Converter, python: Path, folder: Path, index: int) -> dict[str, float]:
    source = folder / case.backend / case.model
    bare_cpu, bare_wall = _bare(
        case, python, source / case.file, folder / f"bare-{case.model}-{case.target}-{index}"
    )
    request = Request(source, case.source, case.target, inputs=case.inputs)
    before, began = _children_cpu(), time.monotonic()
    conversion = converter.convert(request, folder / f"{case.model}-{case.target}-{index}")
    wall, cpu = time.monotonic() - began, _children_cpu() - before
    spent = conversion.report.seconds["convert"]
    compared = sum(spent[step]["cpu"] for step in ("draw", "predict") if step in spent)
    own = spent["process"]["cpu"] - compared
    return {
        "bare_cpu_s": bare_cpu,
        "bare_wall_s": bare_wall,
        "conversion_cpu_s": own,
        "verification_cpu_s": cpu - own,
        "total_wall_s": wall,
        "max_abs_error": conversion.report.max_abs_error or 0.0,
    }


def _bare(case: Case, python: Path, source: Path, target: Path) -> tuple[float, float]:
    before, began = _children_cpu(), time.monotonic()
    command = [
        python,
        "-I",
        "-W",
        "ignore",
        "-c",
        f"import sys\n_, source, target = sys.argv\n{case.bare}",
        source,
        target,
    ]
    subprocess.run(command, check=True, capture_output=True, env=_environment())
    return _children_cpu() - before, time.monotonic() - began


def _environment() -> dict[str, str]:
    """As a child of a conversion has it."""
    one = {"OMP_NUM_THREADS": "2", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return {**os.environ, **one}


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
