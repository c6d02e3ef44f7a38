"""GraphDef: a frozen graph of TensorFlow 1."""

from __future__ import annotations

from catchment.errors import ExtractionFailed
from catchment.formats.extract import tf_graph
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, TensorSpec, shown
from catchment.formats.protobuf import Message

_INPUTS = ("Placeholder", "PlaceholderV2")
_NO_OUTPUTS = ("NoOp", "Assert", "Const", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault")

# fmt: off
_OF_TYPE_T = frozenset({
    "Add", "AddN", "AddV2", "AvgPool", "BatchMatMul", "BatchMatMulV2", "BiasAdd", "Concat", "ConcatV2",
    "Conv2D", "Div", "Elu", "Exp", "ExpandDims", "Identity", "LeakyRelu", "LogSoftmax", "MatMul", "Max",
    "MaxPool", "Maximum", "Mean", "Min", "Minimum", "Mul", "Neg", "Pad", "PadV2", "RealDiv", "Relu",
    "Relu6", "Reshape", "Selu", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Squeeze",
    "StridedSlice", "Sub", "Sum", "Tanh", "Transpose",
})
# fmt: on
"""Operations whose result has the type that they call T; of comparisons, say, that is the operands' type."""
_TYPE_IN = {"ArgMax": "output_type", "ArgMin": "output_type", "Cast": "DstT", "Shape": "out_type"}


def read(folder: ModelFolder) -> Extracted:
    """Placeholders, nodes that nobody consumes, and operations of the one *.graphdef (or *.pb) file."""
    name = folder.one("*.graphdef") if folder.all("*.graphdef") else folder.one("*.pb")
    with folder.mapped(name) as data:
        graph = tf_graph.Graph(Message(data))
        if not graph.nodes or any(not node.op for node in graph.nodes.values()):
            raise ExtractionFailed(
                f"{shown(name)} is no GraphDef: it has no nodes, or nodes without operation"
            )
        nodes = list(graph.nodes.values())
        consumed = {tf_graph.node_name(each) for node in nodes for each in node.inputs}
        inputs = tuple(tf_graph.tensor(node, node.dtype()) for node in nodes if node.op in _INPUTS)
        ends = [node for node in nodes if node.name not in consumed and node.op not in _NO_OUTPUTS]
        outputs = tuple(_output(node) for node in ends)
        absent = [] if inputs else ["inputs: the graph has no placeholder"]
        absent += (
            ["the sizes of the outputs: they are not in the file and would have to be inferred"]
            if outputs
            else ["outputs: every node is consumed by another"]
        )
        absent.append("the TensorFlow version: a GraphDef holds only the number of its own format")
        return Extracted(
            "GraphDef",
            "TensorFlow",
            inputs=inputs,
            outputs=outputs,
            layers=graph.layers(nodes),
            parameters=tf_graph.variables(nodes) + tf_graph.constants(nodes),
            extras={"producer": graph.producer, "parametersAre": "variables and constants of floating point"},
            absent=tuple(absent),
        )


def _output(node: tf_graph.Node) -> TensorSpec:
    if node.op in _OF_TYPE_T:
        return TensorSpec(node.name, None, node.dtype("T"))
    return TensorSpec(node.name, None, node.dtype(_TYPE_IN[node.op]) if node.op in _TYPE_IN else "")
