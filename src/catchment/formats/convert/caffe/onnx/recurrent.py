"""Caffe's LSTM and RNN layers as an ONNX Scan, since `cont` may begin a sequence anew at any step."""

from __future__ import annotations

import onnx
from onnx import helper

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.blobs import blob
from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.caffe.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph


def recurrent(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """bottoms: x (T, N, ...), cont (T, N), which is 0 where a sequence begins; top: h (T, N, num_output)."""
    params = layer.params.message("recurrent_param")
    if len(bottoms) != 2 or len(layer.tops) != 1 or params.flag("expose_hidden", False):
        raise ConversionFailed("only x and cont as bottoms and the hidden states as top can be converted")
    units = params.whole("num_output")
    gates = 4 * units if layer.type == "LSTM" else units
    steps, batch, *rest = graph.known(bottoms[0], range(graph.rank(bottoms[0])))
    features = 1
    for dim in rest:
        features *= dim
    weight = graph.constant(blob(layer, 0, (gates, features)).T, "W_x")
    flat = graph.add("Reshape", [bottoms[0], graph.ints([steps, batch, features])])
    projected = graph.add("MatMul", [flat, weight])
    projected = graph.add("Add", [projected, graph.constant(blob(layer, 1, (gates,)), "b")])
    cont = graph.add("Unsqueeze", [bottoms[1], graph.ints([2])])
    hidden = graph.constant(blob(layer, 2, (gates, units)).T, "W_h")
    zeros = graph.add("ConstantOfShape", [graph.ints([batch, units])])
    if layer.type == "LSTM":
        body = _lstm_step(hidden, batch, units)
        scanned = [zeros, zeros, projected, cont]
        return graph.add_many("Scan", scanned, 3, body=body, num_scan_inputs=2, captured=[hidden])[2:]
    weight_o = graph.constant(blob(layer, 3, (units, units)).T, "W_o")
    bias_o = graph.constant(blob(layer, 4, (units,)), "b_o")
    body = _rnn_step(hidden, batch, units)
    scanned = [zeros, projected, cont]
    states = graph.add_many("Scan", scanned, 2, body=body, num_scan_inputs=2, captured=[hidden])[1]
    return [graph.add("Tanh", [graph.add("Add", [graph.add("MatMul", [states, weight_o]), bias_o])])]


def _value(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _lstm_step(hidden: str, batch: int, units: int) -> onnx.GraphProto:
    """Gates in the order input, forget, output, candidate; `cont` wipes both states."""
    nodes = [
        helper.make_node("Mul", ["h", "cont"], ["h_kept"]),
        helper.make_node("Mul", ["c", "cont"], ["c_kept"]),
        helper.make_node("MatMul", ["h_kept", hidden], ["from_h"]),
        helper.make_node("Add", ["from_h", "x"], ["gates"]),
        helper.make_node("Split", ["gates"], ["i_in", "f_in", "o_in", "g_in"], axis=1),
        *(helper.make_node("Sigmoid", [f"{gate}_in"], [gate]) for gate in "ifo"),
        helper.make_node("Tanh", ["g_in"], ["g"]),
        helper.make_node("Mul", ["f", "c_kept"], ["c_old"]),
        helper.make_node("Mul", ["i", "g"], ["c_new"]),
        helper.make_node("Add", ["c_old", "c_new"], ["c_out"]),
        helper.make_node("Tanh", ["c_out"], ["c_tanh"]),
        helper.make_node("Mul", ["o", "c_tanh"], ["h_out"]),
        helper.make_node("Identity", ["h_out"], ["y"]),
    ]
    states = [_value("h", batch, units), _value("c", batch, units)]
    scanned = [_value("x", batch, 4 * units), _value("cont", batch, 1)]
    results = [_value(name, batch, units) for name in ("h_out", "c_out", "y")]
    return helper.make_graph(nodes, "lstm_step", [*states, *scanned], results)


def _rnn_step(hidden: str, batch: int, units: int) -> onnx.GraphProto:
    """h = tanh(W_h · (cont · h) + x)."""
    nodes = [
        helper.make_node("Mul", ["h", "cont"], ["h_kept"]),
        helper.make_node("MatMul", ["h_kept", hidden], ["from_h"]),
        helper.make_node("Add", ["from_h", "x"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["h_out"]),
        helper.make_node("Identity", ["h_out"], ["y"]),
    ]
    inputs = [_value("h", batch, units), _value("x", batch, units), _value("cont", batch, 1)]
    return helper.make_graph(
        nodes, "rnn_step", inputs, [_value("h_out", batch, units), _value("y", batch, units)]
    )


OPS: dict[str, Op] = {"LSTM": recurrent, "RNN": recurrent}
