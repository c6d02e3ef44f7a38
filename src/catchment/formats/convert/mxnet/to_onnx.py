"""MXNetParams to ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.dimensions import given_shape, missing_shapes, refuse_unknown_inputs
from catchment.formats.convert.files import only_file
from catchment.formats.convert.mxnet.onnx import OPS
from catchment.formats.convert.mxnet.params import read_params
from catchment.formats.convert.mxnet.symbol import Node, Symbol, read_symbol
from catchment.formats.convert.onnx_graph import OPSET, OnnxGraph
from catchment.formats.convert.report import Inputs, Report
from catchment.formats.convert.steps import refuse_unsupported, step

BACKEND = "catchment-mxnet"

RESULTS = {"RNN": ("output", "state_output", "statecell_output"), "make_loss": ("loss",)}
"""What the outputs of an operator are called, behind the node's name."""


def convert(source_folder: Path, target_folder: Path, inputs: Inputs | None = None) -> Report:
    """Write target_folder/model.onnx from the *symbol.json and *.params of source_folder.

    Args:
        source_folder: holds exactly one of each.
        target_folder: is there.
        inputs: shapes; MXNet's files have none.

    Raises:
        ConversionFailed: a file is broken, an operator is not known, or an input has no shape.
    """
    symbol = read_symbol(source_folder)
    arrays = read_params(only_file(source_folder, "*.params"))
    needed = [symbol.nodes[at] for at in symbol.needed]
    refuse_unsupported([(each.name, each.op) for each in needed], {*OPS, "null"}, "operator")
    graph = OnnxGraph("mxnet")
    shapes = _input_shapes(needed, arrays, inputs)
    outputs = [output_name(symbol, source, index) for source, index in symbol.heads]
    graph.reserve([*shapes, *dict.fromkeys(outputs)])
    results = _nodes(graph, symbol, arrays, shapes)
    for name, (source, index) in zip(outputs, symbol.heads, strict=True):
        if index >= len(results[source]):
            raise ConversionFailed(f"the output {index} of '{symbol.nodes[source].name}' cannot be converted")
        graph.output(name, results[source][index])
    graph.save(target_folder / "model.onnx")
    return Report(BACKEND, OPSET, graph.operators(), tuple(graph.warnings), ("model.onnx",))


def _nodes(
    graph: OnnxGraph, symbol: Symbol, arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]
) -> dict[int, list[str]]:
    """Add every node that is needed; the tensors that each one gives."""
    results: dict[int, list[str]] = {}
    for at in symbol.needed:
        node = symbol.nodes[at]
        if node.op == "null":
            graph.scope = ""
            known = node.name in arrays
            values = _single(arrays[node.name], graph) if known else None
            results[at] = [
                graph.input(node.name, shapes[node.name])
                if values is None
                else graph.constant(values, node.name)
            ]
            continue
        with step("operator", node.name, node.op):
            graph.scope = node.name
            results[at] = OPS[node.op](graph, node, [results[source][index] for source, index in node.inputs])
    graph.scope = ""
    return results


def _single(values: np.ndarray, graph: OnnxGraph) -> np.ndarray:
    """Floats in single precision."""
    if values.dtype.kind != "f" or values.dtype == np.float32:
        return values
    warning = f"weights in {values.dtype} were converted to float32, and so are the inputs"
    if warning not in graph.warnings:
        graph.warnings.append(warning)
    return values.astype(np.float32)


def output_name(symbol: Symbol, source: int, index: int) -> str:
    """What MXNet's list_outputs calls a result."""
    node = symbol.nodes[source]
    if node.op == "null":
        return node.name
    if node.op in RESULTS:
        return f"{node.name}_{RESULTS[node.op][min(index, len(RESULTS[node.op]) - 1)]}"
    several = node.op in {"SliceChannel", "split", "_split_v2"}
    return f"{node.name}_output{index}" if several else f"{node.name}_output"


def _input_shapes(
    nodes: list[Node], arrays: dict[str, np.ndarray], inputs: Inputs | None
) -> dict[str, tuple[int, ...]]:
    """A shape for each variable that has no array: the user's, else that of the symbol's `__shape__`."""
    variables = [node for node in nodes if node.op == "null" and node.name not in arrays]
    refuse_unknown_inputs(inputs, [node.name for node in variables])
    found, missing = {}, []
    for node in variables:
        drawn = node.attributes.numbers("__shape__", ())
        shape = given_shape(inputs, node.name) or (drawn if drawn and min(drawn) > 0 else None)
        if shape is None:
            missing.append(node.name)
        else:
            found[node.name] = shape
    if missing:
        raise missing_shapes(missing, "an MXNet model")
    return found
