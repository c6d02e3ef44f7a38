"""ONNX graphs for tests: a linear model whose initializers bear the names of torch's parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def linear_onnx(
    path: Path,
    inputs: int = 2,
    outputs: int = 1,
    *,
    names: tuple[str, str] = ("weight", "bias"),
    **more: np.ndarray,
) -> Path:
    """y = x · weightᵀ + bias, with zeros for weights; `more` are further initializers."""
    weight, bias = names
    arrays = {weight: np.zeros((outputs, inputs), np.float32), bias: np.zeros(outputs, np.float32), **more}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", weight, bias], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
