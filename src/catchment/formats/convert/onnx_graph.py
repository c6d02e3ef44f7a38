"""An ONNX graph under construction that always knows the shapes of its tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from catchment.errors import ConversionFailed
from catchment.formats.convert.dimensions import LARGEST_TENSOR_BYTES

OPSET = 17
"""LayerNormalization is there, and every runtime of the last years reads it."""

IR_VERSION = 8
SMALL = 64
"""Values of a constant that shape inference looks at."""

Dim = int | str


class OnnxGraph:
    """Nodes are added in order of computation, and the onnx package infers each one's shapes at once."""

    def __init__(self, name: str, *, keeps_weights: bool = True) -> None:
        """An empty graph; one that does not keep weights knows shapes, and cannot be saved."""
        self._keeps_weights = keeps_weights
        self._model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="catchment")
        self._model.graph.name = name or "graph"
        self._nodes: list[onnx.NodeProto] = []
        self._constants: set[str] = set()
        self._values: dict[str, onnx.TensorProto] = {}
        self._types: dict[str, onnx.TypeProto] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._taken: set[str] = set()
        self._bytes = 0
        self._renamed: dict[str, str] = {}
        self._captured: set[str] = set()
        self.scope = ""
        self.warnings: list[str] = []

    def reserve(self, names: Sequence[str]) -> None:
        """Keep these names for tensors that will be asked for by exactly them."""
        self._taken.update(names)

    def fresh(self, hint: str) -> str:
        """A tensor name that nothing else has: the hint, or the hint with a number."""
        name, count = hint, 1
        while name in self._taken:
            name, count = f"{hint}_{count}", count + 1
        self._taken.add(name)
        return name

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """Declare an input; -1 stands for a free batch."""
        dims: list[Dim] = ["batch" if dim == -1 else dim for dim in shape]
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._types[name] = helper.make_tensor_type_proto(element, dims)
        self._inputs.append(name)
        self._taken.add(name)
        return name

    def constant(self, values: np.ndarray, hint: str = "constant") -> str:
        """Store a tensor in the file; its name.

        Raises:
            ConversionFailed: all constants together would pass 2 GiB.
        """
        self._bytes += values.nbytes
        if self._bytes > LARGEST_TENSOR_BYTES:
            raise ConversionFailed("the model's weights pass 2 GiB, more than one ONNX file holds")
        name = self.fresh(f"{self.scope}_{hint}" if self.scope else hint)
        element = helper.np_dtype_to_tensor_dtype(values.dtype)
        self._types[name] = helper.make_tensor_type_proto(element, list(values.shape))
        self._constants.add(name)
        if self._keeps_weights or values.size <= SMALL:
            # Straight into the model: a weight that were added later would be copied.
            proto = self._model.graph.initializer.add(name=name, data_type=element, dims=values.shape)
            proto.raw_data = values.astype(values.dtype.newbyteorder("<"), order="C", copy=False).tobytes()
            self._values[name] = proto
        return name

    def scalar(self, value: float, dtype: str = "float32") -> str:
        """A constant of rank 0."""
        return self.constant(np.array(value, dtype), "scalar")

    def ints(self, values: Sequence[int]) -> str:
        """A constant int64 vector, as axes, shapes and sizes are given."""
        return self.constant(np.array(values, np.int64), "sizes")

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node of one output, and give the output's name."""
        return self.add_many(op, inputs, 1, **attributes)[0]

    def add_many(
        self, op: str, inputs: Sequence[str], count: int, *, captured: Sequence[str] = (), **attributes: Any
    ) -> list[str]:
        """Add a node of `count` outputs, and give their names; its subgraph uses the tensors `captured`.

        Raises:
            ConversionFailed: the inputs do not fit the operator, or an output would be empty.
        """
        names = [self.fresh(self.scope or op.lower()) for _ in range(count)]
        node = helper.make_node(op, list(inputs), names, **attributes)
        self._infer(node, captured)
        node.name = f"{op}_{len(self._nodes)}"
        self._nodes.append(node)
        return names

    def _infer(self, node: onnx.NodeProto, captured: Sequence[str]) -> None:
        self._captured.update(captured)
        types = {name: self._types[name] for name in [*node.input, *captured] if name}
        small = {name: self._values[name] for name in node.input if self._is_small(name)}
        opsets = [helper.make_opsetid("", OPSET)]
        try:
            found = shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, OPSET), node, types, small, {}, opsets, IR_VERSION
            )
        except (shape_inference.InferenceError, onnx.checker.ValidationError) as problem:
            raise ConversionFailed(f"{node.op_type}: {_first_line(problem)}") from None
        for name in filter(None, node.output):
            if name not in found or not found[name].tensor_type.HasField("shape"):
                raise ConversionFailed(
                    f"{node.op_type}: the shape of '{name}' cannot be known from its inputs"
                )
            self._types[name] = found[name]
            if any(isinstance(dim, int) and dim < 1 for dim in self.shape(name)):
                raise ConversionFailed(
                    f"{node.op_type}: the result would be empty, shape {list(self.shape(name))}"
                )

    def _is_small(self, name: str) -> bool:
        """Whether it is a constant that may be a shape, axes or sizes."""
        dims = self._types[name].tensor_type.shape.dim if name in self._values else ()
        return name in self._values and math.prod(dim.dim_value for dim in dims) <= SMALL

    def shape(self, name: str) -> tuple[Dim | None, ...]:
        """Dimensions of a tensor; a free one is a name, or None."""
        dims = self._types[name].tensor_type.shape.dim
        return tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param if d.HasField("dim_param") else None
            for d in dims
        )

    def rank(self, name: str) -> int:
        """Number of dimensions."""
        return len(self._types[name].tensor_type.shape.dim)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type."""
        found: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(self._types[name].tensor_type.elem_type)
        return found

    def value(self, name: str) -> np.ndarray | None:
        """The values of a constant; None for what is computed."""
        return numpy_helper.to_array(self._values[name]) if name in self._values else None

    def known(self, name: str, axes: Sequence[int]) -> list[int]:
        """Sizes of some dimensions.

        Raises:
            ConversionFailed: one is free, or the tensor has no such dimension.
        """
        shape, found = self.shape(name), []
        for axis in axes:
            if not -len(shape) <= axis < len(shape):
                raise ConversionFailed(f"'{name}' of shape {list(shape)} has no dimension {axis}")
            dim = shape[axis]
            if not isinstance(dim, int):
                raise ConversionFailed(f"dimension {axis} of '{name}' is free, here its size must be known")
            found.append(dim)
        return found

    def output(self, name: str, tensor: str) -> None:
        """Declare an output called `name`, which must be reserved, that is `tensor`."""
        if name in self._inputs:
            wanted, name = name, self.fresh(f"{name}_output")
            self.warnings.append(f"the output '{wanted}' is called '{name}', since an input has its name")
        computed = tensor not in self._inputs and tensor not in self._constants
        if not computed or tensor in self._renamed:
            tensor = self.add("Identity", [tensor])
        self._renamed[tensor] = name
        self._outputs.append(tensor)

    def operators(self) -> dict[str, int]:
        """How often each operator occurs."""
        return dict(sorted(Counter(node.op_type for node in self._nodes).items()))

    def save(self, path: Path) -> None:
        """Check the model in full and write it.

        Raises:
            ConversionFailed: there is no output, or the checker finds a fault.
        """
        if not self._outputs:
            raise ConversionFailed("the model has no output")
        for node in self._nodes:
            node.input[:] = [self._renamed.get(name, name) for name in node.input]
            node.output[:] = [self._renamed.get(name, name) for name in node.output]
        used = {name for node in self._nodes for name in node.input} | self._captured
        graph = self._model.graph
        for index in reversed(range(len(graph.initializer))):
            if graph.initializer[index].name not in used:
                del graph.initializer[index]
        graph.node.extend(self._nodes)
        graph.input.extend(onnx.ValueInfoProto(name=name, type=self._types[name]) for name in self._inputs)
        graph.output.extend(
            onnx.ValueInfoProto(name=self._renamed[name], type=self._types[name]) for name in self._outputs
        )
        self._model.opset_import.append(helper.make_opsetid("", OPSET))
        onnx.save_model(self._model, path)
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except (onnx.checker.ValidationError, shape_inference.InferenceError) as problem:
            raise ConversionFailed(f"the converted model is not valid: {_first_line(problem)}") from None


def _first_line(problem: Exception) -> str:
    return str(problem).strip().splitlines()[0]
