"""Repairs change names and declarations, and never what a model computes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from catchment.formats.convert import onnx_repair

X = np.float32([[1.0, -2.0]])


def branching() -> onnx.ModelProto:
    """y = relu(x) where flag, else -x; the branches refer to the outer x."""

    def branch(name: str, operator: str) -> onnx.GraphProto:
        node = helper.make_node(operator, ["x"], [f"{name}_made"])
        made = helper.make_tensor_value_info(f"{name}_made", TensorProto.FLOAT, [None, 2])
        return helper.make_graph([node], name, [], [made])

    node = helper.make_node(
        "If", ["flag"], ["inner"], then_branch=branch("yes", "Relu"), else_branch=branch("no", "Neg")
    )
    last = helper.make_node("Identity", ["inner"], ["y"])
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["unk__1", 2]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["unk__2", 2]),
    ]
    graph = helper.make_graph([node, last], "g", ends[:2], ends[2:])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    (made,) = ReferenceEvaluator(model).run(None, dict(feeds))
    return np.asarray(made)


@pytest.mark.parametrize("flag", [True, False])
def test_renamed_inputs_reach_the_graphs_inside(flag: bool) -> None:
    model = branching()
    onnx_repair.merge_opsets(model)
    before = run(model, {"x": X, "flag": np.array(flag)})
    onnx_repair.name_ends(model, ["image", "switch"], ["inner"])
    onnx_repair.set_shapes(model, {"image": (None, 2), "inner": (None, 2)})
    after = run(model, {"image": X, "switch": np.array(flag)})
    assert np.array_equal(before, after)
    assert [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", ""]
    assert [each.name for each in model.graph.output] == ["inner"]


def test_opsets_that_come_twice_become_the_newest() -> None:
    model = branching()
    onnx_repair.merge_opsets(model)
    assert {each.domain: each.version for each in model.opset_import} == {"": 17, "ai.onnx.ml": 3}
    assert len(model.opset_import) == 2


def test_names_of_other_ends_and_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="another input's or output's"):
        onnx_repair.name_ends(branching(), ["y", "flag"], None)
    with pytest.raises(ValueError, match="2 of 1"):
        onnx_repair.name_ends(branching(), ["x"], None)


def test_inputs_can_change_names_with_each_other() -> None:
    model = branching()
    onnx_repair.merge_opsets(model)
    onnx_repair.renamed(model, {"x": "flag", "flag": "x"})
    assert np.array_equal(run(model, {"flag": X, "x": np.array(True)}), np.maximum(X, 0))
