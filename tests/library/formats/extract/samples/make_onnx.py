"""Makes onnx/model.onnx.

Run: python make_onnx.py, with onnx 1.23.2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent / "onnx"
HERE.mkdir(exist_ok=True)
w = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
b = numpy_helper.from_array(np.zeros(3, np.float32), "b")
graph = helper.make_graph(
    [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
    "small",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    [w, b],
)
model = helper.make_model(
    graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="catchment-sample", ir_version=8
)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, HERE / "model.onnx")
