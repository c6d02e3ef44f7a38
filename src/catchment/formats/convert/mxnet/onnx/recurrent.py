"""MXNet's fused RNN operator, whose weights are one vector as cuDNN packs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.dimensions import checked_size
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph

# Where each of ONNX's gates (LSTM i o f c, GRU z r h) stands in MXNet's order (LSTM i f c o, GRU r z n).
GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
MOST_LAYERS = 256
OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


@dataclass(frozen=True)
class Cells:
    """One layer's weights for ONNX: (D, gates · H, in), (D, gates · H, H), (D, 2 · gates · H)."""

    input: np.ndarray
    hidden: np.ndarray
    bias: np.ndarray


def unpacked(
    packed: np.ndarray, mode: str, layers: int, directions: int, units: int, features: int
) -> list[Cells]:
    """The weights of each layer from the one vector: first all matrices, then all biases.

    Raises:
        ConversionFailed: the vector has another length.
    """
    count = len(GATES[mode]) * units
    shapes: list[tuple[int, ...]] = []
    for layer in range(layers):
        incoming = features if layer == 0 else directions * units
        shapes += [(count, incoming), (count, units)] * directions
    shapes += [(count,)] * (2 * directions * layers)
    sizes = [checked_size(shape, "an RNN's weight") for shape in shapes]
    if sum(sizes) != packed.size:
        raise ConversionFailed(f"the weights have {packed.size} values, {sum(sizes)} are needed")
    parts = np.split(packed.ravel(), np.cumsum(sizes)[:-1])
    ordered = [_ordered(part.reshape(shape), mode, units) for part, shape in zip(parts, shapes, strict=True)]
    step, biases = 2 * directions, 2 * directions * layers
    return [
        Cells(
            np.stack(ordered[at : at + step : 2]),
            np.stack(ordered[at + 1 : at + step : 2]),
            np.stack(ordered[biases + at : biases + at + step]).reshape(directions, -1),
        )
        for at in range(0, biases, step)
    ]


def _ordered(values: np.ndarray, mode: str, units: int) -> np.ndarray:
    gates = values.reshape(len(GATES[mode]), units, -1)
    return gates[list(GATES[mode])].reshape(values.shape)


def rnn(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """RNN: data (T, N, I) to (T, N, D · H), and with state_outputs the states (L · D, N, H)."""
    attributes = node.attributes
    mode, units = attributes.text("mode"), attributes.whole("state_size")
    if mode not in GATES or attributes.has("projection_size") or attributes.flag("use_sequence_length"):
        raise ConversionFailed(f"mode {mode}, projection_size or use_sequence_length cannot be converted")
    layers, directions = attributes.whole("num_layers"), 2 if attributes.flag("bidirectional") else 1
    if not 0 < layers <= MOST_LAYERS:
        raise ConversionFailed(f"num_layers is {layers}, 1 to {MOST_LAYERS} are expected")
    packed = graph.value(inputs[1])
    if packed is None:
        raise ConversionFailed("its weights are computed; they must stand in the params file")
    (features,) = graph.known(inputs[0], [2])
    cells = unpacked(packed, mode, layers, directions, units, features)
    starts = [_states(graph, each, layers, directions) for each in inputs[2 : 4 if mode == "lstm" else 3]]
    data, last = inputs[0], []
    for at, layer in enumerate(cells):
        data, *states = _layer(graph, mode, data, layer, [start[at] for start in starts])
        last.append(states)
    if not attributes.flag("state_outputs"):
        return [data]
    return [data, *(_joined(graph, list(each)) for each in zip(*last, strict=True))]


def _states(graph: OnnxGraph, state: str, layers: int, directions: int) -> list[str]:
    """The starting state of each layer; "" stands for zeros."""
    values = graph.value(state)
    if values is not None and not values.any():
        return [""] * layers
    if layers == 1:
        return [state]
    return graph.add_many("Split", [state, graph.ints([directions] * layers)], layers, axis=0)


def _joined(graph: OnnxGraph, states: list[str]) -> str:
    return states[0] if len(states) == 1 else graph.add("Concat", states, axis=0)


def _layer(graph: OnnxGraph, mode: str, data: str, cells: Cells, starts: list[str]) -> list[str]:
    directions, units = cells.hidden.shape[0], cells.hidden.shape[2]
    weights = [
        graph.constant(cells.input, "W"),
        graph.constant(cells.hidden, "R"),
        graph.constant(cells.bias, "B"),
    ]
    extra: dict[str, Any] = {}
    if mode == "gru":
        extra["linear_before_reset"] = 1
    if mode == "rnn_relu":
        extra["activations"] = ["Relu"] * directions
    results = graph.add_many(
        OPERATORS[mode],
        [data, *weights, "", *starts],
        3 if mode == "lstm" else 2,
        hidden_size=units,
        direction="bidirectional" if directions == 2 else "forward",
        **extra,
    )
    # (T, D, N, H) to (T, N, D * H)
    turned = graph.add("Transpose", results[:1], perm=[0, 2, 1, 3])
    steps, batch = graph.shape(data)[:2]
    sizes = [steps if isinstance(steps, int) else -1, batch if isinstance(batch, int) else -1]
    if sizes == [-1, -1]:
        raise ConversionFailed("the number of steps or the batch must be known")
    return [graph.add("Reshape", [turned, graph.ints([*sizes, directions * units])]), *results[1:]]


OPS: dict[str, Op] = {"RNN": rnn}
