"""MXNet's softmaxes and output layers, which in inference are what they apply to their first input."""

from __future__ import annotations

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.onnx.pointwise import plain, same
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph


def softmax_output(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """SoftmaxOutput: along the last dimension, or with multi_output the channels of each place."""
    return [graph.add("Softmax", inputs, axis=1 if node.attributes.flag("multi_output") else -1)]


def softmax_activation(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """SoftmaxActivation: along the last dimension, or the channels of each place.

    The documentation says that `instance` normalises over a whole image; mxnet 1.9.1 does what stands here.
    """
    return [graph.add("Softmax", inputs, axis=1 if node.attributes.text("mode") == "channel" else -1)]


def softmax(op: str, sign: float) -> Op:
    """softmax, log_softmax and softmin along one dimension, at a temperature."""

    def build(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
        if node.attributes.flag("use_length"):
            raise ConversionFailed("use_length cannot be converted")
        factor = sign / node.attributes.number("temperature", 1.0)
        data = onnx_parts.scaled(graph, inputs[0], factor, 0.0)
        return [graph.add(op, [data], axis=node.attributes.whole("axis", -1))]

    return build


OPS: dict[str, Op] = {
    "LinearRegressionOutput": same,
    "LogisticRegressionOutput": plain("Sigmoid"),
    "MAERegressionOutput": same,
    "SVMOutput": same,
    "Softmax": softmax_output,
    "SoftmaxActivation": softmax_activation,
    "SoftmaxOutput": softmax_output,
    "log_softmax": softmax("LogSoftmax", 1.0),
    "softmax": softmax("Softmax", 1.0),
    "softmin": softmax("Softmax", -1.0),
}
