"""Extraction beside loading the model through its framework: CPU time and peak memory of the child process.

The floor is a process that imports the framework and loads the same file, where this interpreter has the
framework, or one that is given. The first lines are an interpreter that does nothing: less cannot be had. The
best of several runs each, of CPU time (user and system); memory is the largest resident set, mapped pages
included. A part of model_jobs.py.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from table import Line

from catchment.formats.extract import running
from tests.library.formats.extract import onnx_writing as onnx
from tests.library.formats.extract.sampled import SAMPLES
from tests.library.formats.extract.test_fields import PMML, nets

REPEATS = 5
HUGE_BYTES = 3 * 2**30


LAUNCHER = """
import os, sys
command = [each.replace('"parent": PARENT', f'"parent": {os.getpid()}') for each in sys.argv[2:]]
quiet = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2)]
runs = []
for _ in range(int(sys.argv[1])):
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=quiet)
    _, status, used = os.wait4(pid, 0)
    if status:
        sys.exit(f"{command[-2:]} ended with {status}")
    runs.append((used.ru_utime + used.ru_stime, used.ru_maxrss))
print(min(cpu for cpu, _ in runs[1:]), max(memory for _, memory in runs[1:]))
"""


@dataclass(frozen=True)
class Peer:
    """How a framework loads a sample: `module` must be importable, `code` finds the folder in `f`."""

    module: str
    code: str


KERAS = (
    "import os; os.environ['KERAS_BACKEND']='{}'; import keras; "
    "keras.saving.load_model(f+'/{}', safe_mode=False)"
)
CASES: dict[str, tuple[str, str, Peer | None]] = {
    # name: sample folder, format, peer
    "ONNX": ("onnx", "ONNX", Peer("onnx", "import onnx; onnx.load(f+'/model.onnx')")),
    "SavedModel": (
        "saved_model_v2",
        "SavedModel",
        Peer(
            "tensorflow",
            "import tensorflow as tf; from tensorflow.python.saved_model import loader_impl as l; "
            "l.parse_saved_model(f)",
        ),
    ),
    "GraphDef": (
        "graphdef",
        "GraphDef",
        Peer(
            "tensorflow",
            "import tensorflow as tf; g=tf.compat.v1.GraphDef(); "
            "g.ParseFromString(open(f+'/model.graphdef','rb').read()); tf.import_graph_def(g)",
        ),
    ),
    "H5": ("h5", "H5", Peer("keras", KERAS.format("torch", "model.h5"))),
    "H5, TensorFlow": ("h5", "H5", Peer("tensorflow", KERAS.format("tensorflow", "model.h5"))),
    "Keras": ("keras", "Keras", Peer("keras", KERAS.format("torch", "model.keras"))),
    "TorchScript": (
        "torchscript",
        "TorchScript",
        Peer("torch", "import torch; torch.jit.load(f+'/model.pt')"),
    ),
    "ExportedProgram": (
        "exported",
        "ExportedProgram",
        Peer("torch", "import torch; torch.export.load(f+'/model.pt2')"),
    ),
    "StateDict": ("state_dict", "StateDict", Peer("torch", "import torch; torch.load(f+'/model.pth')")),
    "Safetensors": (
        "safetensors",
        "Safetensors",
        Peer("torch", "from safetensors.torch import load_file; load_file(f+'/model.safetensors')"),
    ),
    "CaffeModel": ("caffe", "CaffeModel", None),
    "NetDef": ("netdef", "NetDef", None),
    "MXNetParams": (
        "mxnet",
        "MXNetParams",
        Peer("mxnet", "import mxnet as m; m.model.load_checkpoint(f+'/model', 0)"),
    ),
    "PMML": ("pmml", "PMML", None),
    "MLflow": (
        "mlflow",
        "MLflow",
        Peer("mlflow", "from mlflow.models import Model; Model.load(f+'/MLmodel')"),
    ),
    "XGBoost json": (
        "xgboost_json",
        "XGBoost",
        Peer("xgboost", "import xgboost; xgboost.Booster(model_file=f+'/model.json')"),
    ),
    "XGBoost ubj": (
        "xgboost_ubj",
        "XGBoost",
        Peer("xgboost", "import xgboost; xgboost.Booster(model_file=f+'/model.ubj')"),
    ),
    "LightGBM": (
        "lightgbm",
        "LightGBM",
        Peer("lightgbm", "import lightgbm; lightgbm.Booster(model_file=f+'/model.txt')"),
    ),
    "SKLearn skops": (
        "skops",
        "SKLearn",
        Peer(
            "skops",
            "import skops.io as s; s.load(f+'/model.skops', "
            "trusted=s.get_untrusted_types(file=f+'/model.skops'))",
        ),
    ),
    "SKLearn joblib": (
        "sklearn",
        "SKLearn",
        Peer("sklearn", "import joblib; joblib.load(f+'/model.joblib')"),
    ),
    "TensorRT": ("tensorrt", "TensorRT", None),
    "ONNX, 3 GiB": ("huge", "ONNX", Peer("onnx", "import onnx; onnx.load(f+'/model.onnx')")),
}


def lines(pythons: Mapping[str, str], only: str | None) -> Iterator[Line]:
    """All cases, or the one of that name.

    Args:
        pythons: module of a framework -> interpreter that has it, where this one has not.
        only: name of a case.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_by_hand(Path(folder))
        nothing = best([sys.executable, "-I", "-c", "pass"], dict(os.environ))
        yield Line("extract", "nothing: CPU", nothing[0], None, "s")
        yield Line("extract", "nothing: peak memory", nothing[1], None, "MB")
        for name in CASES:
            if only in (None, name):
                yield from measured(name, Path(folder), pythons)


def write_by_hand(folder: Path) -> None:
    """Samples that no script beside the tests makes."""
    files: dict[str, bytes | str] = {
        **{f"netdef/{name}": content for name, content in nets().items()},
        "pmml/m.pmml": PMML,
        "tensorrt/m.plan": b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(1000),
        "safetensors/model.safetensors": safetensors.numpy.save({"a": np.zeros((8, 8), np.float32)}),
        "huge/model.onnx": huge(),
        "huge/w.bin": b"",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    os.truncate(folder / "huge" / "w.bin", HUGE_BYTES)


def huge() -> bytes:
    """Twelve MatMul of 256 MiB each, whose values lie beside the file."""
    parts = 12
    length = HUGE_BYTES // parts
    weights = [
        onnx.tensor(f"w{i}", (8192, 8192), location="w.bin", offset=str(i * length), length=str(length))
        for i in range(parts)
    ]
    nodes = [onnx.node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(parts)]
    inputs = [onnx.value_info("h0", dims=("n", 8192))]
    return onnx.model(onnx.graph(nodes, inputs, [onnx.value_info(f"h{parts}", dims=("n", 8192))], weights))


def measured(name: str, by_hand: Path, pythons: Mapping[str, str]) -> Iterator[Line]:
    """CPU time and memory of one case, beside its framework's."""
    sample, format_name, peer = CASES[name]
    folder = by_hand / sample if (by_hand / sample).exists() else SAMPLES / sample
    command = running.command(folder, format_name, running.DEFAULT)
    command[-1] = command[-1].replace(f'"parent": {os.getpid()}', '"parent": PARENT')
    ours = best(command, running.environment(os.environ))
    theirs = loaded(peer, folder, pythons) if peer else None
    yield Line("extract", f"{name}: CPU", ours[0], theirs[0] if theirs else None, "s")
    yield Line("extract", f"{name}: peak memory", ours[1], theirs[1] if theirs else None, "MB")


def loaded(peer: Peer, folder: Path, pythons: Mapping[str, str]) -> tuple[float, float] | None:
    """The same of the framework; None where no interpreter has it."""
    python = pythons.get(peer.module) or (sys.executable if importlib.util.find_spec(peer.module) else None)
    if python is None:
        return None
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return best([python, "-W", "ignore", "-c", f"f={str(folder)!r}; {peer.code}"], quiet)


def best(command: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Least CPU seconds and most resident megabytes of several runs.

    A small process starts them: the kernel counts as a child's memory what its parent had at the fork.
    """
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, str(REPEATS), *command],
        env=environ,
        stdout=subprocess.PIPE,
        check=True,
    )
    cpu, memory = launched.stdout.split()
    return float(cpu), float(memory) * 1024 / 1e6
