"""Repairs of what MMdnn makes.

Its result is of opset 6, with a renamed input whose channels come last; results with four dimensions have
them last, too; and the weights of a dense layer behind images are ordered for channels that come last, while
the graph flattens them first. What these repairs miss, the gate finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import helper, shape_inference, version_converter

from catchment.formats.convert import onnx_repair
from catchment.formats.convert.tensor_spec import TensorSpec

OPSET = 13
_CHANNELS_LAST, _CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def repaired(model: Any, taken: TensorSpec, output: str) -> Any:
    """The model at a newer opset, with Caffe's names and layout: [batch, channels, height, width].

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
    inferred = shape_inference.infer_shapes(raised).graph
    _flatten_channels_last(graph, {e.name: len(e.type.tensor_type.shape.dim) for e in inferred.value_info})
    onnx_repair.set_shapes(raised, {taken.name: taken.shape})
    # MMdnn's own note of the result's shape may even have another rank.
    graph.output[0].type.tensor_type.ClearField("shape")
    if len(_output_lengths(raised)) == 4:
        _transpose_output(graph, output)
    onnx_repair.set_shapes(raised, {output: [None, *_output_lengths(raised)[1:]]})
    return raised


def _output_lengths(model: Any) -> list[int | None]:
    """The shape of the output as it follows from the graph; None where that does not say a length."""
    end = shape_inference.infer_shapes(model).graph.output[0]
    return [dim.dim_value or None for dim in end.type.tensor_type.shape.dim]


def _transpose_input(graph: Any, name: str) -> None:
    inner = f"{name}__channels_last"
    for node in graph.node:
        for index, each in enumerate(node.input):
            if each == name:
                node.input[index] = inner
    graph.node.insert(0, helper.make_node("Transpose", [name], [inner], perm=_CHANNELS_LAST))


def _flatten_channels_last(graph: Any, ranks: Mapping[str, int]) -> None:
    """Let dense layers see images in the order of their weights."""
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type == "Flatten" and ranks.get(node.input[0]) == 4:
            inner = f"{node.output[0]}__channels_last"
            graph.node.append(helper.make_node("Transpose", [node.input[0]], [inner], perm=_CHANNELS_LAST))
            node.input[0] = inner
        graph.node.append(node)


def _transpose_output(graph: Any, name: str) -> None:
    inner = f"{name}__channels_last"
    for node in graph.node:
        for field in (node.input, node.output):
            for index, each in enumerate(field):
                if each == name:
                    field[index] = inner
    graph.node.append(helper.make_node("Transpose", [inner], [name], perm=_CHANNELS_FIRST))
