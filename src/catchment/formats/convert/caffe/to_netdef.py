"""CaffeModel to NetDef."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from catchment.formats.convert.caffe.model import read_net
from catchment.formats.convert.caffe.netdef import OPS
from catchment.formats.convert.caffe.netdef.op import Site
from catchment.formats.convert.caffe.onnx import OPS as SHAPES
from catchment.formats.convert.caffe.to_onnx import input_shapes
from catchment.formats.convert.netdef.writer import NetWriter
from catchment.formats.convert.onnx_graph import OnnxGraph
from catchment.formats.convert.report import Inputs, Report
from catchment.formats.convert.steps import refuse_unsupported, step

BACKEND = "catchment-caffe"


def convert(source_folder: Path, target_folder: Path, inputs: Inputs | None = None) -> Report:
    """Write target_folder/init_net.pb and predict_net.pb from the prototxt and caffemodel of source_folder.

    Caffe2's operators need sizes that the layers do not name, so the ONNX form of each layer is made beside,
    which knows all shapes. Blobs keep their names, and layers work in place where they did.

    Args:
        source_folder: holds exactly one of each.
        target_folder: is there.
        inputs: shapes; they stand above those of the prototxt.

    Raises:
        ConversionFailed: a file is broken, a layer is not known, or an input has no shape.
    """
    net = read_net(source_folder)
    refuse_unsupported([(each.name, each.type) for each in net.layers], {*OPS, "Silence"}, "layer")
    shapes, writer = OnnxGraph(net.name, keeps_weights=False), NetWriter(net.name)
    given = input_shapes(net, inputs)
    tensors = {name: shapes.input(name, shape) for name, shape in given.items()}
    for layer in net.layers:
        if layer.type == "Silence":
            continue
        with step("layer", layer.name, layer.type):
            before = [tensors[bottom] for bottom in layer.bottoms]
            made = SHAPES[layer.type](shapes, layer, before)
            OPS[layer.type](Site(writer, layer, shapes, before, made))
            tensors.update(zip(layer.tops, made, strict=True))
    files = writer.save(target_folder, given, net.outputs)
    return Report(BACKEND, None, dict(sorted(Counter(writer.kinds).items())), net.dropped, files)
