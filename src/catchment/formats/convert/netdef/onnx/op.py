"""What an operator's function gets and gives."""

from __future__ import annotations

from collections.abc import Callable

from catchment.formats.convert.netdef.model import Operator
from catchment.formats.convert.onnx_graph import OnnxGraph

Op = Callable[[OnnxGraph, Operator, list[str]], list[str]]
"""(graph, operator, tensors that it reads) -> tensors that it gives; the later ones may be left out."""
