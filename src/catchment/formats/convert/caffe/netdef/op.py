"""What a layer's function gets for writing Caffe2 operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.netdef.writer import NetWriter, Value
from catchment.formats.convert.onnx_graph import OnnxGraph


@dataclass(frozen=True)
class Site:
    """One layer on its way into the network.

    Attributes:
        writer: where operators go.
        layer: the layer.
        shapes: knows the shapes of all tensors.
        bottoms: tensors of `shapes` that the layer reads.
        tops: tensors of `shapes` that it gives.
    """

    writer: NetWriter
    layer: Layer
    shapes: OnnxGraph
    bottoms: list[str]
    tops: list[str]

    def add(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **arguments: Value) -> None:
        """Add an operator with the layer's name."""
        self.writer.add(kind, inputs, outputs, self.layer.name, **arguments)

    def plain(self, kind: str, **arguments: Value) -> None:
        """Add an operator from the layer's bottoms to its tops."""
        self.add(kind, self.layer.bottoms, self.layer.tops, **arguments)

    def weight(self, suffix: str, values: np.ndarray) -> str:
        """A trained blob of the layer, called as caffe_translator does: name_w, name_b."""
        return self.writer.weight(f"{self.layer.name}_{suffix}", values)

    def between(self, suffix: str) -> str:
        """A blob between two operators of the layer."""
        return f"{self.layer.name}__{suffix}"

    def rank(self) -> int:
        """Dimensions of the first bottom."""
        return self.shapes.rank(self.bottoms[0])

    def sizes(self, axes: Sequence[int]) -> list[int]:
        """Sizes of some dimensions of the first bottom."""
        return self.shapes.known(self.bottoms[0], axes)


Op = Callable[[Site], None]
