"""NetDef to ONNX."""

from __future__ import annotations

from pathlib import Path

from catchment.errors import ConversionFailed
from catchment.formats.convert.dimensions import given_shape, missing_shapes, refuse_unknown_inputs
from catchment.formats.convert.netdef.model import Model, place, read_model
from catchment.formats.convert.netdef.onnx import OPS
from catchment.formats.convert.onnx_graph import OPSET, OnnxGraph
from catchment.formats.convert.report import Inputs, Report
from catchment.formats.convert.steps import refuse_unsupported, step

BACKEND = "catchment-netdef"


def convert(source_folder: Path, target_folder: Path, inputs: Inputs | None = None) -> Report:
    """Write target_folder/model.onnx from the init_net.pb and predict_net.pb of source_folder.

    Args:
        source_folder: holds one of each.
        target_folder: is there.
        inputs: shapes; NetDef files have none.

    Raises:
        ConversionFailed: a file is broken, an operator is not known, or an input has no shape.
    """
    model = read_model(source_folder, tuple(inputs or ()))
    refuse_unsupported([(place(op), op.type) for op in model.net.operators], OPS, "operator")
    refuse_unknown_inputs(inputs, model.inputs)
    shapes = {name: given_shape(inputs, name) for name in model.inputs}
    missing = [name for name, shape in shapes.items() if shape is None]
    if missing:
        raise missing_shapes(missing, "a NetDef model")
    graph = OnnxGraph(model.net.name)
    graph.reserve([*model.inputs, *model.outputs])
    indices = index_inputs(model)
    tensors = {
        name: graph.input(name, shape, "int64" if name in indices else "float32")
        for name, shape in shapes.items()
        if shape is not None
    }
    graph.warnings += [
        f"the input '{name}' is taken to be int64, since it selects rows" for name in sorted(indices)
    ]
    read = {name for op in model.net.operators for name in op.inputs}
    tensors |= {name: graph.constant(values, name) for name, values in model.weights.items() if name in read}
    for op in model.net.operators:
        with step("operator", place(op), op.type):
            graph.scope = op.outputs[0]
            made = OPS[op.type](graph, op, [_tensor(tensors, name) for name in op.inputs])
            for name in op.outputs:
                tensors.pop(name, None)
            tensors.update(zip(op.outputs, made, strict=False))
    graph.scope = ""
    for name in model.outputs:
        graph.output(name, _tensor(tensors, name))
    graph.save(target_folder / "model.onnx")
    return Report(BACKEND, OPSET, graph.operators(), tuple(graph.warnings), ("model.onnx",))


def _tensor(tensors: dict[str, str], name: str) -> str:
    if name not in tensors:
        raise ConversionFailed(f"'{name}' is a side result that cannot be converted")
    return tensors[name]


def index_inputs(model: Model) -> set[str]:
    """Inputs that choose rows of a table, and so are whole numbers."""
    chosen = {op.inputs[1] for op in model.net.operators if op.type == "Gather" and len(op.inputs) > 1}
    return chosen & set(model.inputs)
