"""Models of every format that is extracted: their files, and what their signature is known to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.library.formats.extract import onnx_writing
from tests.library.formats.extract.sampled import SAMPLES
from tests.library.formats.extract.test_fields import PMML, nets

Files = dict[str, bytes]
Tensors = list[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """A model, and what the extraction that follows its upload must find.

    Attributes:
        name: of the model in the registry.
        format: said with the upload.
        files: those below `model/`, by their paths; called with the folder that the makers have written.
        inputs, outputs: as GET shows them in the signature.
        layers: operators, all of them.
        extras: some of what only this format has.
        absent: words of which each must be in what is said to be absent; () where nothing may be.
        says: inputs and outputs that the uploader gives; the version keeps them where the file has none.
    """

    name: str
    format: str
    files: Callable[[Path], Files]
    inputs: Tensors
    outputs: Tensors
    layers: dict[str, int]
    parameters: int | None
    version: str = ""
    opset: dict[str, int] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    says: dict[str, Tensors] = field(default_factory=dict)


def tensor(name: str, *size: int, dtype: str = "float32") -> dict[str, Any]:
    """As a signature writes it; without lengths the size is not known."""
    return {"name": name, **({"size": list(size)} if size else {}), "dType": dtype}


def in_folder(path: Path) -> Files:
    """All files below a folder."""
    return {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


def made(backend: str, name: str) -> Callable[[Path], Files]:
    """Files that a maker has written."""
    return lambda folder: in_folder(folder / backend / name)


def sampled(name: str) -> Callable[[Path], Files]:
    """Files that are kept with the tests of extraction."""
    return lambda _: in_folder(SAMPLES / name)


def written(files: Mapping[str, bytes | str]) -> Callable[[Path], Files]:
    """Files that the tests write by hand."""
    told = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    return lambda _: dict(told)


def onnx_with_external_data() -> Files:
    """x [batch, 4] @ w, with w in a file of its own."""
    w = onnx_writing.tensor("w", (4, 3), location="w.bin", offset="0", length="48")
    graph = onnx_writing.graph(
        [onnx_writing.node("MatMul", ["x", "w"], ["y"])],
        [onnx_writing.value_info("x")],
        [onnx_writing.value_info("y", dims=("batch", 3))],
        [w],
    )
    weights = np.random.default_rng(5).normal(size=(4, 3)).astype("<f4")
    return {"model.onnx": onnx_writing.model(graph), "w.bin": weights.tobytes()}


KERAS_LAYERS = {
    **{"BatchNormalization": 1, "Conv2D": 1, "Dense": 2, "Flatten": 1, "InputLayer": 1, "MaxPooling2D": 1},
}
GRAPH_LAYERS = {
    **{"AddV2": 3, "BiasAdd": 2, "Conv2D": 1, "MatMul": 2, "MaxPool": 1, "Mul": 3, "Pack": 1},
    **{"Placeholder": 1, "Relu": 1, "Reshape": 2, "Rsqrt": 1, "Shape": 1, "Softmax": 1, "Squeeze": 1},
    **{"StridedSlice": 1, "Sub": 1},
}
IMAGE_LAST, IMAGE_FIRST = tensor("image", -1, 8, 8, 3), tensor("image", -1, 3, 8, 8)
NO_MATRIX = ("inputs and outputs by name", "parameters")
FOREST = {"Pipeline": 1, "StandardScaler": 1, "RandomForestClassifier": 1}
BOOSTED = {"features": 6, "classes": 3}

SOURCES = (
    Source(
        "h5",
        "H5",
        made("tensorflow", "h5"),
        [IMAGE_LAST],
        [tensor("classes"), tensor("score")],
        KERAS_LAYERS,
        350,
        "3.15.1",
        absent=("the size of the output 'classes', 'score'",),
    ),
    Source(
        "keras",
        "Keras",
        made("tensorflow", "keras"),
        [IMAGE_LAST],
        [tensor("classes", -1, 5), tensor("score", -1, 1)],
        KERAS_LAYERS,
        350,
        "3.15.1",
    ),
    Source(
        "savedmodel",
        "SavedModel",
        made("tensorflow", "saved_model"),
        [IMAGE_LAST],
        [tensor("output_0", -1, 5), tensor("output_1", -1, 1)],
        {
            **GRAPH_LAYERS,
            **{"Const": 6, "Identity": 4, "NoOp": 2, "ReadVariableOp": 10},
            **{"StatefulPartitionedCall": 2, "VarHandleOp": 10},
        },
        350,
        "2.21.0",
        extras={"signature": "serving_default"},
    ),
    Source(
        "graphdef",
        "GraphDef",
        made("tensorflow", "graph"),
        [IMAGE_LAST],
        [tensor("Identity"), tensor("Identity_1")],
        {**GRAPH_LAYERS, "Const": 16, "Identity": 12, "NoOp": 1},
        351,
        absent=("the sizes of the outputs", "the TensorFlow version"),
    ),
    Source(
        "torchscript",
        "TorchScript",
        made("torch", "script"),
        [],
        [],
        {"classes": 1, "convolution": 1, "score": 1},
        334,
        extras={"arguments": [{"name": "image", "type": "Tensor"}], "numTensors": 6},
        absent=("the sizes and dtypes of the inputs", "of the outputs", "the PyTorch version"),
        says={"inputs": [IMAGE_FIRST], "outputs": [tensor("classes"), tensor("score")]},
    ),
    Source(
        "exported",
        "ExportedProgram",
        made("torch", "exported"),
        [IMAGE_FIRST],
        [tensor("softmax", -1, 5), tensor("linear_1", -1, 1)],
        {
            **{"aten.conv2d.default": 1, "aten.flatten.using_ints": 1, "aten.linear.default": 2},
            **{"aten.max_pool2d.default": 1, "aten.relu.default": 1, "aten.softmax.int": 1},
        },
        334,
        "2.13.0+cpu",
        {"aten": 10},
    ),
    Source(
        "statedict",
        "StateDict",
        made("torch", "state"),
        [],
        [],
        {},
        338,
        extras={"numTensors": 8},
        absent=("inputs, outputs and layers", "the PyTorch version"),
    ),
    Source(
        "safetensors",
        "Safetensors",
        written({"model.safetensors": safetensors.numpy.save({"a": np.ones((8, 3), np.float32)})}),
        [],
        [],
        {},
        24,
        extras={"tensors": [{"name": "a", "size": [8, 3], "dType": "float32"}]},
        absent=("inputs, outputs and layers",),
    ),
    Source(
        "forest",
        "SKLearn",
        made("sklearn", "forest"),
        [],
        [],
        {**FOREST, "DecisionTreeClassifier": 11},
        None,
        "1.9.1",
        extras={"features": 6, "numClasses": 3, "serialization": "skops"},
        absent=NO_MATRIX,
    ),
    Source(
        "joblib",
        "SKLearn",
        sampled("sklearn"),
        [],
        [],
        {**FOREST, "DecisionTreeClassifier": 3},
        None,
        "1.9.1",
        extras={"serialization": "joblib"},
        absent=("a .joblib file is a pickle, which is never loaded here",),
    ),
    Source(
        "xgboost",
        "XGBoost",
        made("sklearn", "xgboost_classes"),
        [],
        [],
        {"Tree": 15},
        None,
        "3.2.0",
        extras={**BOOSTED, "objective": "multi:softprob"},
        absent=NO_MATRIX,
    ),
    Source(
        "xgboost-json",
        "XGBoost",
        sampled("xgboost_json"),
        [],
        [],
        {"Tree": 9},
        None,
        "3.2.0",
        extras={**BOOSTED, "featureNames": [f"feature_{index}" for index in range(6)]},
        absent=NO_MATRIX,
    ),
    Source(
        "lightgbm",
        "LightGBM",
        made("sklearn", "lightgbm_classes"),
        [],
        [],
        {"Tree": 15},
        None,
        extras={**BOOSTED, "formatVersion": "v4"},
        absent=(*NO_MATRIX, "the LightGBM version"),
    ),
    Source(
        "mxnet",
        "MXNetParams",
        made("mxnet", "small"),
        [],
        [],
        {
            **{"Activation": 1, "BatchNorm": 1, "Convolution": 1, "FullyConnected": 1, "Pooling": 1},
            **{"SoftmaxOutput": 1},
        },
        305,
        "1.9.1",
        extras={"arguments": ["data", "softmax_label"], "results": ["softmax"]},
        absent=("the sizes and dtypes of the inputs", "the sizes and dtypes of the outputs"),
    ),
    Source(
        "caffe",
        "CaffeModel",
        made("mmdnn", "small"),
        [tensor("data", 1, 3, 8, 8)],
        [tensor("prob")],
        {"Convolution": 1, "InnerProduct": 1, "Input": 1, "Pooling": 1, "ReLU": 1, "Softmax": 1},
        297,
        absent=("the sizes of the outputs", "the Caffe version"),
    ),
    Source(
        "netdef",
        "NetDef",
        written(nets()),
        [],
        [],
        {"FC": 1, "Softmax": 1},
        15,
        extras={"arguments": ["data"], "results": ["prob"]},
        absent=("sizes and dtypes",),
    ),
    Source(
        "onnx",
        "ONNX",
        lambda _: onnx_with_external_data(),
        [tensor("x", -1, 4)],
        [tensor("y", -1, 3)],
        {"MatMul": 1},
        12,
        "hand 1.0",
        {"ai.onnx": 17},
        extras={"externalData": ["w.bin"]},
    ),
    Source(
        "pmml",
        "PMML",
        written({"m.pmml": PMML}),
        [
            {"name": "age", "dType": "double", "opType": "continuous"},
            {"name": "town", "dType": "string", "opType": "categorical", "values": ["Köln", "Bonn"]},
        ],
        [
            {"name": "probability(1)", "dType": "double", "opType": "continuous"},
            {"name": "buys", "dType": "integer", "opType": "categorical", "values": ["0", "1"]},
        ],
        {},
        None,
        "trainer 1.2",
        absent=("parameters",),
    ),
    Source(
        "mlflow",
        "MLflow",
        sampled("mlflow"),
        [tensor("age", dtype="float64"), tensor("town", dtype="string")],
        [tensor("scores", -1, 3)],
        {},
        None,
        "3.17.2",
        absent=("parameters",),
    ),
    Source(
        "tensorrt",
        "TensorRT",
        written({"m.plan": b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(1000)}),
        [],
        [],
        {},
        None,
        "10.3.0.26",
        absent=("cannot be inspected without the GPU",),
    ),
)
