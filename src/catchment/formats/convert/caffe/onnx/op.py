"""What a layer's function gets and gives."""

from __future__ import annotations

from collections.abc import Callable

from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.onnx_graph import OnnxGraph

Op = Callable[[OnnxGraph, Layer, list[str]], list[str]]
"""(graph, layer, tensors of its bottoms) -> tensors of its tops."""
