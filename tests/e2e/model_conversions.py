"""Every conversion that is offered, of which model, and what the result is known to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e.model_sources import IMAGE_FIRST, IMAGE_LAST, Tensors, onnx_with_external_data, tensor

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Predictions:
    """Inputs by name, and what the source's own framework makes of them, in the order of its outputs."""

    inputs: Arrays
    outputs: list[np.ndarray]


@dataclass(frozen=True)
class Conversion:
    """A conversion, and what it must make.

    Attributes:
        name: of the ModelJob, and of the version that it makes.
        source: `model:version`.
        pair: formats, as the request spells them.
        backend, reference: that the report must name.
        takes, gives: inputs and outputs of the result.
        predicted: what the result must say in onnxruntime; None: it does not run there.
        options, inputs: of the request.
        lossy: whether the numbers are changed by design.
    """

    name: str
    source: str
    pair: tuple[str, str]
    backend: str
    reference: str
    takes: Tensors
    gives: Tensors
    predicted: Callable[[Path], Predictions] | None
    options: dict[str, Any] = field(default_factory=dict)
    inputs: Tensors = field(default_factory=list)
    lossy: bool = False

    def spec(self) -> dict[str, Any]:
        """Of the ModelJob."""
        pair = {"from": self.pair[0], "to": self.pair[1]}
        given = [{"name": e["name"], "shape": e["size"], "dType": e["dType"]} for e in self.inputs]
        return {
            "model": f"default/rows-{self.source}",
            "desiredTag": f"default/rows-{self.source.partition(':')[0]}:{self.name}",
            "conversion": {"mmdnn": pair, "options": self.options},
            **({"inputs": given} if given else {}),
        }


def by_maker(backend: str, name: str) -> Callable[[Path], Predictions]:
    """What a maker has stored beside its model."""

    def read(folder: Path) -> Predictions:
        with np.load(folder / backend / f"{name}.npz") as kept:
            inputs = {key.removeprefix("in:"): kept[key] for key in kept if key.startswith("in:")}
            return Predictions(inputs, [kept[key] for key in kept if key.startswith("out:")])

    return read


def multiplied(_: Path) -> Predictions:
    """What the ONNX model with external data computes."""
    x = np.random.default_rng(6).normal(size=(5, 4)).astype(np.float32)
    w = np.frombuffer(onnx_with_external_data()["w.bin"], "<f4").reshape(4, 3)
    return Predictions({"x": x}, [x @ w])


DATA = tensor("data", -1, 3, 8, 8)
ROWS = tensor("input", -1, 6)
BOTH = [tensor("classes", -1, 5), tensor("score", -1, 1)]
CLASSIFIED = [tensor("label", -1, dtype="int64"), tensor("probabilities", -1, 3)]
X, Y = tensor("x", -1, 4), tensor("y", -1, 3)
PROB, SOFTMAX = tensor("prob", -1, 5), tensor("softmax_output", -1, 5)
TF, TORCH, SK = "tensorflow", "torch", "sklearn"


def keras(name: str, kind: str) -> tuple[Conversion, ...]:
    """A Keras file becomes ONNX, a SavedModel, and that ONNX in turn."""
    predicted = by_maker(TF, name)
    return (
        Conversion(f"{name}-onnx", f"{name}:v1", (kind, "ONNX"), TF, TF, [IMAGE_LAST], BOTH, predicted),
        Conversion(f"{name}-saved", f"{name}:v1", (kind, "SavedModel"), TF, TF, [IMAGE_LAST], BOTH, None),
        Conversion(
            f"{name}-saved-onnx",
            f"{name}:{name}-saved",
            ("SavedModel", "ONNX"),
            TF,
            TF,
            [IMAGE_LAST],
            BOTH,
            predicted,
        ),
    )


def of_onnx(name: str, lossy: bool = False, **options: Any) -> Conversion:
    """An operation on the ONNX model."""
    given = ("onnx:v1", ("ONNX", "ONNX"), "base", "base")
    return Conversion(f"onnx-{name}", *given, [X], [Y], multiplied, options, lossy=lossy)


def of_caffe(name: str, by: str, **options: Any) -> Conversion:
    """The Caffe model as ONNX, with a free batch."""
    return Conversion(
        name,
        "caffe:v1",
        ("CaffeModel", "ONNX"),
        by,
        "opencv",
        [DATA],
        [PROB],
        by_maker("mmdnn", "small"),
        options,
        inputs=[DATA],
    )


def of_trees(name: str, kind: str, maker: str) -> Conversion:
    """A model of tables as ONNX."""
    made = by_maker(SK, maker)
    return Conversion(f"{name}-onnx", f"{name}:v1", (kind, "ONNX"), SK, SK, [ROWS], CLASSIFIED, made)


CONVERSIONS = (
    *keras("h5", "H5"),
    *keras("keras", "Keras"),
    Conversion(
        "graphdef-onnx",
        "graphdef:v1",
        ("GraphDef", "ONNX"),
        TF,
        TF,
        [IMAGE_LAST],
        [tensor("Identity", -1, 5), tensor("Identity_1", -1, 1)],
        by_maker(TF, "graph"),
    ),
    Conversion(
        "torchscript-onnx",
        "torchscript:v1",
        ("TorchScript", "ONNX"),
        TORCH,
        TORCH,
        [IMAGE_FIRST],
        BOTH,
        by_maker(TORCH, "script"),
        options={"opset": 16},
    ),
    Conversion(
        "exported-onnx",
        "exported:v1",
        ("ExportedProgram", "ONNX"),
        TORCH,
        TORCH,
        [IMAGE_FIRST],
        [tensor("softmax", -1, 5), tensor("linear_1", -1, 1)],
        by_maker(TORCH, "exported"),
    ),
    Conversion(
        "statedict-safetensors", "statedict:v1", ("StateDict", "Safetensors"), "base", TORCH, [], [], None
    ),
    of_trees("forest", "SKLearn", "forest"),
    of_trees("xgboost", "XGBoost", "xgboost_classes"),
    of_trees("lightgbm", "LightGBM", "lightgbm_classes"),
    Conversion(
        "mxnet-onnx",
        "mxnet:v1",
        ("MXNETParams", "ONNX"),
        "base",
        "mxnet",
        [DATA],
        [SOFTMAX],
        by_maker("mxnet", "small"),
        inputs=[DATA],
    ),
    of_caffe("caffe-onnx", "base"),
    of_caffe("caffe-mmdnn", "mmdnn", backend="mmdnn"),
    Conversion(
        "caffe-netdef", "caffe:v1", ("CaffeModel", "NetDef"), "base", "opencv", [], [], None, inputs=[DATA]
    ),
    Conversion(
        "caffe-netdef-onnx",
        "caffe:caffe-netdef",
        ("NetDef", "ONNX"),
        "base",
        "base",
        [DATA],
        [PROB],
        by_maker("mmdnn", "small"),
        inputs=[DATA],
    ),
    of_onnx("slim", operation="slim"),
    of_onnx("opset", operation="opset", opset=21),
    of_onnx("int8", operation="int8", lossy=True),
)
