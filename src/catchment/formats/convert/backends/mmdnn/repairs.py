"""Repairs of what MMdnn makes: opset 6, a renamed input with the channels last, and results with them last."""

from __future__ import annotations

from typing import Any

from onnx import helper, version_converter

from catchment.formats.convert import onnx_repair
from catchment.formats.convert.tensor_spec import TensorSpec

OPSET = 13
_CHANNELS_LAST, _CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def repaired(model: Any, taken: TensorSpec, output: str) -> Any:
    """The model at a newer opset, with Caffe's names and layout; images stay [batch, channels, height, width].

    Args:
        model: one input, one output.
        taken: the input as Caffe has it.
        output: the output's name in Caffe.
    """
    raised = version_converter.convert_version(model, OPSET)
    onnx_repair.merge_opsets(raised)
    onnx_repair.forget_inner_shapes(raised)
    graph = raised.graph
    weights = {each.name for each in graph.initializer}
    (own,) = [each for each in graph.input if each.name not in weights]
    shape = [dim.dim_value or None for dim in own.type.tensor_type.shape.dim]
    onnx_repair.name_ends(raised, [taken.name], [output])
    if len(shape) == 4:
        _transpose_input(graph, taken.name)
    made = graph.output[0]
    if len(made.type.tensor_type.shape.dim) == 4:
        _transpose_output(graph, made.name)
    lengths = {taken.name: taken.shape, output: None}
    onnx_repair.set_shapes(raised, lengths)
    _forget_output_shape(made)
    return raised


def _transpose_input(graph: Any, name: str) -> None:
    inner = f"{name}__channels_last"
    for node in graph.node:
        for index, each in enumerate(node.input):
            if each == name:
                node.input[index] = inner
    graph.node.insert(0, helper.make_node("Transpose", [name], [inner], perm=_CHANNELS_LAST))


def _transpose_output(graph: Any, name: str) -> None:
    inner = f"{name}__channels_last"
    for node in graph.node:
        for field in (node.input, node.output):
            for index, each in enumerate(field):
                if each == name:
                    field[index] = inner
    graph.node.append(helper.make_node("Transpose", [inner], [name], perm=_CHANNELS_FIRST))


def _forget_output_shape(made: Any) -> None:
    """MMdnn notes the batch that it assumed; the graph itself works with any."""
    for index, dim in enumerate(made.type.tensor_type.shape.dim):
        dim.Clear()
        dim.dim_param = onnx_repair.BATCH if index == 0 else f"{made.name}_{index}"
