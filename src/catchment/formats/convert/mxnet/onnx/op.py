"""What an operator's function gets and gives."""

from __future__ import annotations

from collections.abc import Callable

from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph

Op = Callable[[OnnxGraph, Node, list[str]], list[str]]
"""(graph, node, tensors that it reads) -> tensors that it gives."""
