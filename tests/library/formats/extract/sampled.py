"""The samples that real frameworks made, and what each is known to hold; samples/make_*.py made them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "samples"

X = {"name": "x", "size": [-1, 4], "dType": "float32"}
FOREST = {"Pipeline": 1, "StandardScaler": 1, "RandomForestClassifier": 1, "DecisionTreeClassifier": 3}
TORCH_TENSORS = 94


@dataclass(frozen=True)
class Sample:
    """What extraction must find."""

    folder: str
    format: str
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    layers: dict[str, int] = field(default_factory=dict)
    parameters: int | None = None
    version: str = ""
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return SAMPLES / self.folder


def _tensor(name: str, size: list[int] | None, **more: str) -> dict[str, Any]:
    return {"name": name, **({} if size is None else {"size": size}), "dType": "float32", **more}


ALL = (
    Sample(
        "onnx",
        "ONNX",
        [X],
        [_tensor("y", [-1, 3])],
        {"Gemm": 1, "Relu": 1},
        15,
        "catchment-sample",
    ),
    Sample(
        "saved_model_v2",
        "SavedModel",
        [_tensor("x", [-1, 4], tensorName="serving_default_x:0")],
        [_tensor("output_0", [-1, 3], tensorName="StatefulPartitionedCall_1:0")],
        {
            **{"BiasAdd": 1, "Identity": 2, "MatMul": 1, "NoOp": 2, "Placeholder": 1, "ReadVariableOp": 2},
            **{"Softmax": 1, "StatefulPartitionedCall": 2, "VarHandleOp": 2},
        },
        15,
        "2.21.0",
        {"signature": "serving_default"},
    ),
    Sample(
        "saved_model_v1",
        "SavedModel",
        [_tensor("features", [-1, 4], tensorName="x:0")],
        [_tensor("scores", [-1, 3], tensorName="y:0")],
        {"MatMul": 1, "Placeholder": 1, "ReadVariableOp": 1, "Softmax": 1, "VarHandleOp": 1},
        12,
        "2.21.0",
        {"signature": "classify"},
    ),
    Sample(
        "graphdef",
        "GraphDef",
        [X],
        [_tensor("Identity", None)],
        {"BiasAdd": 1, "Const": 2, "Identity": 3, "MatMul": 1, "NoOp": 1, "Placeholder": 1, "Softmax": 1},
        15,
    ),
    Sample(
        "keras",
        "Keras",
        [_tensor("left", [-1, 4]), _tensor("right", [-1, 2, 3])],
        [_tensor("score", [-1, 3]), _tensor("value", [-1, 1])],
        {"Concatenate": 1, "Dense": 2, "Flatten": 1, "InputLayer": 2},
        44,
        "3.15.1",
    ),
    Sample(
        "h5",
        "H5",
        [X],
        [_tensor("last", None)],
        {"Dense": 1, "Dropout": 1, "InputLayer": 1},
        15,
        "3.15.1",
        {"class": "Sequential", "backend": "torch"},
    ),
    Sample(
        "h5_lambda",
        "H5",
        [X],
        [{"name": "twice"}],
        {"InputLayer": 1, "Lambda": 1},
        0,
        "3.15.1",
        {"lambdaLayers": ["twice"]},
    ),
    Sample(
        "torchscript",
        "TorchScript",
        layers={"conv": 2, "norm": 1, "fc": 1},
        parameters=89,
        extras={
            "arguments": [
                {"name": "image", "type": "Tensor"},
                {"name": "scale", "type": "float", "default": "1."},
            ],
            "returns": "Tensor",
            "modules": {"Conv2d": 2, "BatchNorm2d": 1, "Linear": 1},
            "numTensors": 11,
        },
    ),
    Sample(
        "exported",
        "ExportedProgram",
        [_tensor("image", [-1, 1, 6, 6])],
        [_tensor("linear", [-1, 3])],
        {
            "aten.batch_norm.default": 1,
            "aten.conv2d.default": 2,
            "aten.flatten.using_ints": 1,
            "aten.linear.default": 1,
            "aten.mul.Tensor": 1,
            "aten.relu.default": 1,
        },
        89,
        "2.13.0+cpu",
        {"ranges": {"s40": {"min_val": 1, "max_val": 64}}},
    ),
    Sample("state_dict", "StateDict", parameters=TORCH_TENSORS, extras={"numTensors": 11}),
    Sample("legacy", "StateDict", parameters=TORCH_TENSORS, extras={"numTensors": 11}),
    Sample(
        "caffe",
        "CaffeModel",
        [_tensor("data", [1, 3, 16, 16])],
        [_tensor("prob", None)],
        {
            **{"BatchNorm": 1, "Convolution": 1, "InnerProduct": 1, "Input": 1, "Pooling": 1},
            **{"ReLU": 1, "Softmax": 1},
        },
        108 + 4 + 9 + 985,
        extras={"net": "small", "layersWithoutWeights": []},
    ),
    Sample(
        "caffe_old",
        "CaffeModel",
        [_tensor("data", [1, 1, 8, 8])],
        [_tensor("ip", None)],
        {"Convolution": 1, "InnerProduct": 1, "ReLU": 1},
        18,
        extras={"net": "old"},
    ),
    Sample(
        "mxnet",
        "MXNetParams",
        layers={"Activation": 1, "BatchNorm": 1, "Convolution": 1, "FullyConnected": 1, "SoftmaxOutput": 1},
        parameters=18 + 2 + 2 + 2 + 96 + 3,
        version="1.9.1",
        extras={"arguments": ["data", "softmax_label"], "results": ["softmax"], "numTensors": 8},
    ),
    Sample(
        "mlflow",
        "MLflow",
        [{"name": "age", "dType": "float64"}, {"name": "town", "dType": "string"}],
        [_tensor("scores", [-1, 3])],
        version="3.17.2",
        extras={
            "flavors": {
                "python_function": {"python_version": "3.11.7"},
                "sklearn": {"sklearn_version": "1.9.1"},
            }
        },
    ),
    Sample(
        "xgboost_json",
        "XGBoost",
        layers={"Tree": 9},
        version="3.2.0",
        extras={"features": 6, "classes": 3, "objective": "multi:softprob", "booster": "gbtree"},
    ),
    Sample(
        "xgboost_ubj",
        "XGBoost",
        layers={"Tree": 9},
        version="3.2.0",
        extras={"features": 6, "classes": 3, "objective": "multi:softprob", "booster": "gbtree"},
    ),
    Sample(
        "xgboost_binary",
        "XGBoost",
        version="1.7",
        extras={"features": 6, "objective": "binary:logistic", "serialization": "binary"},
    ),
    Sample(
        "lightgbm",
        "LightGBM",
        layers={"Tree": 6},
        extras={"features": 6, "classes": 3, "objective": "multiclass num_class:3", "formatVersion": "v4"},
    ),
    Sample("sklearn", "SKLearn", layers=FOREST, version="1.9.1", extras={"serialization": "joblib"}),
    Sample("sklearn_zlib", "SKLearn", layers=FOREST, version="1.9.1", extras={"serialization": "joblib"}),
    Sample(
        "skops",
        "SKLearn",
        layers=FOREST,
        version="1.9.1",
        extras={
            "features": 6,
            "numClasses": 3,
            "steps": [
                {"name": "scale", "class": "StandardScaler"},
                {"name": "forest", "class": "RandomForestClassifier"},
            ],
        },
    ),
)
