"""CaffeModel to ONNX."""

from __future__ import annotations

from pathlib import Path

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.model import Net, read_net
from catchment.formats.convert.caffe.onnx import OPS
from catchment.formats.convert.dimensions import (
    checked_size,
    given_shape,
    missing_shapes,
    refuse_unknown_inputs,
)
from catchment.formats.convert.onnx_graph import OPSET, OnnxGraph
from catchment.formats.convert.report import Inputs, Report
from catchment.formats.convert.steps import refuse_unsupported, step

BACKEND = "catchment-caffe"


def convert(source_folder: Path, target_folder: Path, inputs: Inputs | None = None) -> Report:
    """Write target_folder/model.onnx from the prototxt and caffemodel of source_folder.

    Args:
        source_folder: holds exactly one of each.
        target_folder: is there.
        inputs: shapes; they stand above those of the prototxt.

    Raises:
        ConversionFailed: a file is broken, a layer is not known, or an input has no shape.
    """
    net = read_net(source_folder)
    refuse_unsupported([(each.name, each.type) for each in net.layers], {*OPS, "Silence"}, "layer")
    graph = OnnxGraph(net.name)
    graph.reserve([*net.inputs, *net.outputs])
    tensors = {name: graph.input(name, shape) for name, shape in input_shapes(net, inputs).items()}
    for layer in net.layers:
        if layer.type == "Silence":
            continue
        with step("layer", layer.name, layer.type):
            graph.scope = layer.name
            made = OPS[layer.type](graph, layer, [tensors[bottom] for bottom in layer.bottoms])
            tensors.update(zip(layer.tops, made, strict=True))
    graph.scope = ""
    for name in net.outputs:
        graph.output(name, tensors[name])
    graph.save(target_folder / "model.onnx")
    return Report(BACKEND, OPSET, graph.operators(), (*net.dropped, *graph.warnings), ("model.onnx",))


def input_shapes(net: Net, inputs: Inputs | None) -> dict[str, tuple[int, ...]]:
    """The shape of each input: the user's, else the prototxt's.

    Raises:
        ConversionFailed: one has neither.
    """
    refuse_unknown_inputs(inputs, list(net.inputs))
    shapes = {name: given_shape(inputs, name) or shape for name, shape in net.inputs.items()}
    missing = [name for name, shape in shapes.items() if not shape]
    if missing:
        raise missing_shapes(missing, "the prototxt")
    found = {name: shape for name, shape in shapes.items() if shape}
    for name, shape in found.items():
        if not all(dim > 0 for dim in shape[1:]) or (shape[0] < 1 and shape[0] != -1):
            raise ConversionFailed(
                f"the input '{name}' has the shape {list(shape)}, dimensions are at least 1"
            )
        checked_size([abs(dim) for dim in shape], f"the input '{name}'")
    return found
