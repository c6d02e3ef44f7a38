"""What extraction finds in a model's files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catchment.errors import ExtractionFailed

MAX_DIMENSIONS = 64
_LARGEST = 2**63


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model, with what its file says of it.

    Attributes:
        name: as whoever calls the model names it.
        size: -1 is a dimension that is open; None where the file does not say or the rank is open.
        d_type: numpy's name of it, in PMML its own; "" where the file does not say.
        op_type: of PMML: continuous, categorical, ordinal.
        tensor_name: of SavedModel: the name inside the graph.
        values: that a categorical field may have.
    """

    name: str
    size: tuple[int, ...] | None = None
    d_type: str = ""
    op_type: str = ""
    tensor_name: str = ""
    values: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Under the names of ormbfile.yaml, without what is not known."""
        told = {
            "name": self.name,
            "size": None if self.size is None else list(self.size),
            "dType": self.d_type,
            "opType": self.op_type,
            "tensorName": self.tensor_name,
            "values": list(self.values),
        }
        # A scalar's size is [] and known.
        return {key: value for key, value in told.items() if value or (key == "size" and value == [])}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> TensorSpec:
        """The reverse of `to_json`."""
        size = told.get("size")
        return cls(
            told.get("name", ""),
            None if size is None else tuple(size),
            told.get("dType", ""),
            told.get("opType", ""),
            told.get("tensorName", ""),
            tuple(told.get("values", ())),
        )


@dataclass(frozen=True)
class Extracted:
    """All that one extraction found.

    Attributes:
        format: of the model.
        framework: that it belongs to.
        framework_version: that wrote it; "" where the file does not say.
        inputs, outputs: in the file's order; empty where it has none that can be called by name.
        layers: operator or layer -> how many.
        parameters: numbers that were learned; None where the file does not tell.
        size_bytes: of all files of the model together.
        opset: operator set's domain -> version; of ONNX and what is like it.
        extras: what only this format has.
        absent: what a reader could miss and the files do not hold, in words.
    """

    format: str
    framework: str
    framework_version: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    layers: Mapping[str, int] = field(default_factory=dict)
    parameters: int | None = None
    size_bytes: int = 0
    opset: Mapping[str, int] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "format": self.format,
            "framework": self.framework,
            "frameworkVersion": self.framework_version,
            "signature": {
                "inputs": [tensor.to_json() for tensor in self.inputs],
                "outputs": [tensor.to_json() for tensor in self.outputs],
                "layers": dict(sorted(self.layers.items())),
            },
            "parameters": self.parameters,
            "bytes": self.size_bytes,
            "opset": dict(self.opset),
            "extras": dict(self.extras),
            "absent": list(self.absent),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Extracted:
        """The reverse of `to_json`."""
        signature = told["signature"]
        return cls(
            told["format"],
            told["framework"],
            told["frameworkVersion"],
            tuple(TensorSpec.from_json(each) for each in signature["inputs"]),
            tuple(TensorSpec.from_json(each) for each in signature["outputs"]),
            signature["layers"],
            told["parameters"],
            told["bytes"],
            told["opset"],
            told["extras"],
            tuple(told["absent"]),
        )


def sizes(value: object, whose: str) -> tuple[int, ...]:
    """A shape from a file; None and negative numbers are open dimensions.

    Raises:
        ExtractionFailed: it is no list of whole numbers, or one that no tensor can have.
    """
    if not isinstance(value, (list, tuple)) or len(value) > MAX_DIMENSIONS:
        raise ExtractionFailed(f"the shape of {shown(whose)} is no list of at most {MAX_DIMENSIONS} numbers")
    return tuple(_size(each, whose) for each in value)


def _size(value: object, whose: str) -> int:
    if value is None:
        return -1
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise ExtractionFailed(f"the shape of {shown(whose)} holds {shown(value)}, which is no size")
    return max(value, -1)


def count(shapes: Iterable[tuple[int, ...]]) -> int:
    """How many numbers tensors of these shapes hold together.

    Raises:
        ExtractionFailed: more than any file could.
    """
    total = 0
    for shape in shapes:
        product = 1
        for size in shape:
            product *= max(size, 0)
            if product >= _LARGEST:
                raise ExtractionFailed(f"a tensor of the shape {list(shape)} cannot be")
        total += product
    if total >= _LARGEST:
        raise ExtractionFailed(f"{total} parameters cannot be")
    return total


def shown(value: object) -> str:
    """A name or value from a file, made harmless for a sentence."""
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(r"[^\x20-\x7e]", "?", text[:200])
    return f"'{text[:80]}…'" if len(text) > 80 else f"'{text}'"
